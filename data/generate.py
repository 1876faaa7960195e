"""Write the English-German corpus: python data/generate.py."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from constructions import sample
from grammar import alignment, spell
from sampler import Sampler

SEED = 2017
TRAIN, VALID, TEST = 20_000, 500, 500
CANDIDATES = 4_000  # from which valid and test are chosen
RARE = 6  # a word form of valid and test occurs at least so often in training
HERE = Path(__file__).parent


class Line(NamedTuple):
    """A finished sentence pair."""

    kind: str
    en: str
    de: str
    align: str


def bigrams(text: str) -> list[tuple[str, str]]:
    """Return the adjacent pairs of lower-cased words."""
    tokens = text.lower().split()
    return list(itertools.pairwise(tokens))


def forms(text: str) -> list[str]:
    """Return the lower-cased words without their punctuation."""
    return [t.strip(".,!?") for t in text.lower().split()]


def lines(seed: int) -> Iterator[Line]:
    """Yield distinct sentence pairs without end."""
    sampler = Sampler(seed)
    english: dict[str, str] = {}
    german: dict[str, str] = {}
    while True:
        pair = sample(sampler)
        en, de = spell(pair.en, pair.mark), spell(pair.de, pair.mark)
        en_text, de_text = (" ".join(w.text for w in side) for side in (en, de))
        if en_text in english or de_text in german:
            if english.get(en_text) != de_text or german.get(de_text) != en_text:
                raise ValueError(f"ambiguous: {en_text} | {de_text}")
            continue
        english[en_text], german[de_text] = de_text, en_text
        yield Line(pair.kind, en_text, de_text, alignment(en, de))


def choose(train: list[Line], candidates: Iterable[Line], count: int) -> list[Line]:
    """Choose the sentences with the most word pairs that are new to training.

    The choice is made inside groups of one construction and one length, in
    proportion to the groups' sizes in training, so that neither shifts.
    """
    known = {b for line in train for side in (line.en, line.de) for b in bigrams(side)}
    seen_en, seen_de = (Counter(w for line in train for w in forms(getattr(line, side))) for side in ("en", "de"))

    def group(line: Line) -> tuple[str, int]:
        return line.kind, min(len(line.en.split()) // 3, 6)

    def novelty(line: Line) -> float:
        return min(sum(b not in known for b in pairs) / len(pairs) for pairs in (bigrams(line.en), bigrams(line.de)))

    groups: defaultdict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in candidates:
        rarest = min(*(seen_en[w] for w in forms(line.en)), *(seen_de[w] for w in forms(line.de)))
        if rarest >= RARE:
            groups[group(line)].append(line)
    wanted = Counter(group(line) for line in train)
    chosen: list[Line] = []
    for key in sorted(groups):
        ranked = sorted(groups[key], key=lambda line: (-novelty(line), line.en))
        chosen += ranked[: round(count * 1.02 * wanted[key] / len(train)) + 1]
    while len(chosen) > count:  # drop evenly what rounding gave too much
        del chosen[:: len(chosen) // (len(chosen) - count) + 1]
    return chosen


def splits() -> dict[str, list[Line]]:
    """Generate the three splits."""
    source = lines(SEED)
    train = [next(source) for _ in range(TRAIN)]
    chosen = choose(train, [next(source) for _ in range(CANDIDATES)], VALID + TEST)
    Sampler(SEED).rng.shuffle(chosen)
    return {"train": train, "valid": chosen[:VALID], "test": chosen[VALID:]}


def write(folder: Path) -> None:
    """Write the files of all splits."""
    for split, pairs in splits().items():
        for suffix in ("en", "de", "align"):
            text = "".join(getattr(pair, suffix) + "\n" for pair in pairs)
            (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    write(parser.parse_args().out)

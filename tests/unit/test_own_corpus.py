"""The project's own corpus: reproducible, unseen enough, and rich enough."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
sys.path.insert(0, str(DATA))

import measure  # noqa: E402

SIZES = {"train": 20_000, "valid": 500, "test": 500}
SPLITS = list(SIZES)
PAIRS = [("en", "de"), ("de", "en")]

# Phenomenon: side, pattern, and the share of the sentences that must show it.
PHENOMENA = {
    "subordinate clause": ("de", r", (weil|obwohl|bevor|während|wenn|sobald|als) ", 0.05),
    "dass clause": ("de", r", dass ", 0.015),
    "indirect question": ("de", r", (ob|warum|wann) ", 0.01),
    "relative clause": ("de", r", (der|die|das|den|dem|denen) ", 0.04),
    "relative dative": ("de", r", (dem|denen|der) \w+.*, ?", 0.002),
    "perfect with haben": ("de", r"\b([Hh]at|[Hh]aben|[Hh]abe|[Hh]ast)\b", 0.15),
    "perfect with sein": (
        "de",
        r"(geflogen|eingeschlafen|aufgewacht|gelaufen|gekommen|gefahren|geblieben|aufgestanden|gegangen|gereist|gefolgt)\b",
        0.01,
    ),
    "modal": ("de", r"\b(kann|muss|will|darf|sollte|konnte|musste|wollte|möchte)", 0.04),
    "future": ("de", r"\b([Ww]ird|[Ww]erden|[Ww]erde|[Ww]irst)\b", 0.04),
    "separable verb, split": ("de", r" (an|aus|ein|ab|auf|vor|mit|zu|teil|statt)[.,?!]", 0.02),
    "separable participle": ("de", r"\b(an|aus|ein|ab|auf|mit|zu|teil|statt|zurück)ge\w+", 0.02),
    "separable zu infinitive": ("de", r"\b(an|aus|ein|ab|auf|vor|mit|teil|zu)zu\w+en\b", 0.002),
    "zu infinitive": ("de", r" zu \w+[.]", 0.02),
    "um zu": ("de", r", um ", 0.008),
    "passive": ("de", r"\b[Ww]urden?\b", 0.02),
    "kein": ("de", r"\b[Kk]ein", 0.02),
    "nicht": ("de", r"\bnicht\b", 0.04),
    "question": ("de", r"\?$", 0.05),
    "imperative": ("de", r"!$", 0.015),
    "comparative": ("de", r"(er als|so \w+ wie|genauso)", 0.015),
    "pronoun for a thing": ("en", r"[,a-z] (because|although|but|and) (it|they)\b", 0.03),
    "two-way preposition, accusative": ("de", r"\b(in|auf|unter|neben|hinter|vor) den \w", 0.005),
    "two-way preposition, dative": ("de", r"\b([Ii]m|[Aa]m|[Ii]n dem|[Ii]n der|auf dem)\b", 0.10),
    "dative verb": ("de", r"(hilf|gefällt|gefallen|gedankt|dank|geholfen|gehör|folg)", 0.03),
    "genitive": ("de", r"\b(des|dieses|meines|unseres) \w+(s|n)\b", 0.004),
    "price": ("de", r"\d Euro", 0.01),
    "date": ("de", r"\b\d+\. [JFMASOND]", 0.01),
    "time": ("de", r"\b([Uu]m \w+ Uhr|halb)\b", 0.01),
    "name": ("en", r"\b(Anna|Paul|Peter|Lena|Otto|Clara)\b", 0.03),
    "weak noun": ("de", r"\b(Jungen|Studenten|Polizisten|Kunden|Kollegen|Bauern|Bären)\b", 0.02),
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[str]]:
    """Read all files."""
    return {f"{s}.{x}": measure.read(f"{s}.{x}") for s in SPLITS for x in ("en", "de", "align")}


def test_regenerating_gives_the_same_bytes(tmp_path: Path) -> None:
    """The script writes exactly the files that are checked in."""
    subprocess.run([sys.executable, str(DATA / "generate.py"), "--out", str(tmp_path)], check=True)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 9
    for name in written:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


@pytest.mark.parametrize("split", SPLITS)
def test_sizes(corpus: dict[str, list[str]], split: str) -> None:
    """Every split has its number of non-empty lines, of reasonable length."""
    for suffix in ("en", "de", "align"):
        assert len(corpus[f"{split}.{suffix}"]) == SIZES[split]
        assert all(line.strip() == line and line for line in corpus[f"{split}.{suffix}"])
    for side in ("en", "de"):
        lengths = [len(line.split()) for line in corpus[f"{split}.{side}"]]
        assert 8 <= sum(lengths) / len(lengths) <= 12
        assert min(lengths) >= 3 and max(lengths) <= 25


@pytest.mark.parametrize("side", ["en", "de"])
def test_no_sentence_is_in_two_splits(corpus: dict[str, list[str]], side: str) -> None:
    """No sentence occurs twice, within a split or across splits."""
    lines = [line for split in SPLITS for line in corpus[f"{split}.{side}"]]
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("side", ["en", "de"])
def test_a_fifth_of_the_word_pairs_is_new(side: str, split: str) -> None:
    """At least a fifth of the adjacent word pairs is unseen, by tokens and by types."""
    tokens, types = measure.new_pairs(side, split)
    assert tokens >= 0.2 and types >= 0.2


@pytest.mark.parametrize("side", ["en", "de"])
def test_no_word_is_new(corpus: dict[str, list[str]], side: str) -> None:
    """Every word form of valid and test occurs at least three times in training."""

    def forms(line: str) -> list[str]:
        return [w.strip(".,!?").lower() for w in line.split()]

    seen = Counter(w for line in corpus[f"train.{side}"] for w in forms(line))
    for split in ("valid", "test"):
        assert all(seen[w] >= 3 for line in corpus[f"{split}.{side}"] for w in forms(line))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_word_for_word_is_not_enough(source: str, target: str) -> None:
    """A gloss by the most frequent partners scores below 40 BLEU."""
    assert measure.gloss_bleu(source, target) < 40


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_copying_is_not_enough(source: str, target: str) -> None:
    """The translation of the nearest training sentence scores below 50 BLEU."""
    assert measure.nearest_bleu(source, target) < 50


@pytest.mark.parametrize("split", SPLITS)
def test_alignments(corpus: dict[str, list[str]], split: str) -> None:
    """Alignments are valid, in range, and leave no word of either side alone."""
    for en, de, align in zip(*(corpus[f"{split}.{x}"] for x in ("en", "de", "align")), strict=True):
        assert re.fullmatch(r"\d+-\d+( \d+-\d+)*", align)
        links = measure.links(align)
        assert len(set(links)) == len(links)
        assert {i for i, _ in links} == set(range(len(en.split()))), en
        assert {j for _, j in links} == set(range(len(de.split()))), de


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_phenomena(corpus: dict[str, list[str]], phenomenon: str, split: str) -> None:
    """Every phenomenon has its share in every split."""
    side, pattern, share = PHENOMENA[phenomenon]
    lines = corpus[f"{split}.{side}"]
    assert sum(bool(re.search(pattern, line)) for line in lines) >= share * len(lines)

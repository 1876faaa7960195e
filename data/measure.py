"""Measure how hard the corpus is: python data/measure.py (needs sacrebleu)."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import sacrebleu

HERE = Path(__file__).parent
PUNCTUATION = ".,!?"


def read(name: str) -> list[str]:
    """Read the lines of a corpus file."""
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def bigrams(text: str) -> list[tuple[str, str]]:
    """Return the adjacent pairs of lower-cased words."""
    tokens = text.lower().split()
    return list(itertools.pairwise(tokens))


def new_pairs(side: str, split: str = "test") -> tuple[float, float]:
    """Return the shares of word pairs unseen in training, by tokens and by types."""
    known = {b for line in read(f"train.{side}") for b in bigrams(line)}
    pairs = [b for line in read(f"{split}.{side}") for b in bigrams(line)]
    types = set(pairs)
    return sum(b not in known for b in pairs) / len(pairs), len(types - known) / len(types)


def links(line: str) -> list[tuple[int, int]]:
    """Read an alignment line."""
    return [(int(i), int(j)) for i, j in (pair.split("-") for pair in line.split())]


def gloss_bleu(source: str, target: str) -> float:
    """Score the test's word-for-word gloss, each word by its most frequent partner."""
    partners: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for src, tgt, align in zip(read(f"train.{source}"), read(f"train.{target}"), read("train.align"), strict=True):
        s, t = src.split(), tgt.split()
        for en, de in links(align):
            i, j = (en, de) if source == "en" else (de, en)
            word = t[j].strip(PUNCTUATION)
            partners[s[i].strip(PUNCTUATION).lower()][word] += 1
    # Sentence beginnings are capitalised: names and nouns win by their other occurrences.
    best = {word: counts.most_common(1)[0][0] for word, counts in partners.items()}
    output = []
    for line in read(f"test.{source}"):
        out = []
        for token in line.split():
            bare = token.strip(PUNCTUATION)
            out.append(best.get(bare.lower(), bare) + token[len(bare) :])
        text = " ".join(out)
        output.append(text[0].upper() + text[1:])
    return float(sacrebleu.corpus_bleu(output, [read(f"test.{target}")]).score)


def nearest_bleu(source: str, target: str) -> float:
    """Score the translations of the training sentences that share most words."""
    train = [Counter(line.lower().split()) for line in read(f"train.{source}")]
    translations = read(f"train.{target}")
    index: defaultdict[str, list[int]] = defaultdict(list)
    for i, bag in enumerate(train):
        for word in bag:
            index[word].append(i)
    sizes = [bag.total() for bag in train]
    output = []
    for line in read(f"test.{source}"):
        overlap: Counter[int] = Counter()
        bag = Counter(line.lower().split())
        for word, count in bag.items():
            for i in index[word]:
                overlap[i] += min(count, train[i][word])
        total = bag.total()
        best = max(overlap, key=lambda i: (2 * overlap[i] / (total + sizes[i]), -i))
        output.append(translations[best])
    return float(sacrebleu.corpus_bleu(output, [read(f"test.{target}")]).score)


def main() -> None:
    """Print the figures."""
    for split in ("train", "valid", "test"):
        for side in ("en", "de"):
            lengths = [len(line.split()) for line in read(f"{split}.{side}")]
            print(
                f"{split}.{side}: {len(lengths)} sentences, {statistics.mean(lengths):.1f} words "
                f"on average ({min(lengths)} to {max(lengths)})"
            )
    for side in ("en", "de"):
        words = Counter(w.strip(PUNCTUATION).lower() for line in read(f"train.{side}") for w in line.split())
        rare = sum(n < 5 for n in words.values())
        print(f"{side}: {len(words)} word forms in training, {rare} of them fewer than 5 times")
        for split in ("valid", "test"):
            tokens, types = new_pairs(side, split)
            print(f"{side} {split}: {tokens:.1%} of the word pairs are new ({types:.1%} by types)")
    for source, target in (("en", "de"), ("de", "en")):
        print(
            f"{source}-{target}: gloss {gloss_bleu(source, target):.1f} BLEU, "
            f"nearest sentence {nearest_bleu(source, target):.1f} BLEU"
        )


if __name__ == "__main__":
    main()

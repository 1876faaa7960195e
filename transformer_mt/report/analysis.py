"""What is counted in sentences: words, how rare they are, bands of about equally many, repetitions."""

import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np

from transformer_mt.data.doctor.letters import UNSPACED
from transformer_mt.data.store import BLOCK, Store
from transformer_mt.data.writing import expected_scripts

_BLOCKS = 1024  # of the training text that are read for frequencies: a million pairs
_PHRASE = 8  # words of a phrase that may repeat, at most


def unit(language: str) -> str:
    """What a sentence of the language is measured in: words, or characters where no spaces are written."""
    scripts = expected_scripts(language)
    return "characters" if scripts and scripts <= UNSPACED else "words"


@cache
def _between_words(*, marks: bool) -> dict[int, str]:
    """What stands for every character that is no part of a word: a space or, if wanted, the mark between spaces."""
    kinds = ((code, unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1))
    return {
        code: f" {chr(code)} " if marks and kind[0] in "PS" else " "
        for code, kind in kinds
        if kind[0] in "PSZ" or kind == "Cc"
    }


def words(text: str, language: str, *, marks: bool = False) -> list[str]:
    """The words of a text in lower case, or its characters: without punctuation and symbols, unless as ``marks``."""
    found = text.lower().translate(_between_words(marks=marks)).split()
    return list("".join(found)) if unit(language) == "characters" else found


@dataclass(frozen=True)
class Band:
    """Sentences whose value is from ``low`` to ``high``."""

    low: int
    high: int
    rows: list[int]


def bands(values: Sequence[int], count: int) -> list[Band]:
    """At most ``count`` bands of about equally many rows; equal values are together, and zeros on their own."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found: list[Band] = []
    left = 0  # rows that the last band may still take
    for value, rows in ((value, list(rows)) for value, rows in groupby(order, values.__getitem__)):
        if found and found[-1].high > 0 and (len(rows) <= 2 * left or len(found) == count):
            found[-1] = Band(found[-1].low, value, found[-1].rows + rows)
            left -= len(rows)
        else:
            rest = len(values) - sum(len(band.rows) for band in found)
            left = round(rest / max(1, count - len(found))) - len(rows)
            found.append(Band(value, value, rows))
    return found


def loops(text: str, language: str) -> bool:
    """Whether a phrase of up to eight words or marks comes three times in a row, or a single one five times."""
    found = words(text, language, marks=True)
    for size in range(1, _PHRASE + 1):
        run = 0  # how many words are those ``size`` before them
        for before, word in zip(found, found[size:], strict=False):
            run = run + 1 if word == before else 0
            if run >= max(4, 2 * size):
                return True
    return False


def frequencies(
    store: Store, wanted: Iterable[str], language: str, progress: Callable[[int], None] = lambda _: None
) -> tuple[Counter[str], int]:
    """How often each word that is ``wanted`` is in the source side of the training text; of how many pairs it was read.

    Of more than a million pairs it is an estimate from blocks at equal distances. ``progress`` is called with pairs.
    """
    known, counts, read = frozenset(wanted), Counter[str](), 0
    for number in range(0, store.blocks, -(-store.blocks // _BLOCKS)):
        rows = np.arange(number * BLOCK, min((number + 1) * BLOCK, len(store)))
        counts.update(w for line in store.source.text(rows) for w in words(line, language) if w in known)
        read += len(rows)
        progress(len(rows))
    return Counter({word: round(count * len(store) / read) for word, count in counts.items()}), read

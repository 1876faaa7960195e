"""Many lines of text at once, as arrays: their letters, their words and their character n-grams, hashed."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_mt.data.writing import script

Array = npt.NDArray[Any]

CHUNK = 10_000
"""Lines to look at in one go: some 100 MB of arrays."""

_PREFIX = 5  # letters of a word that count, so that its inflected forms are mostly one
_ODD = np.random.default_rng(1).integers(1 << 63, size=_PREFIX, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_NEWLINE = 10
UNSPACED = frozenset(["CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"])
"""Scripts without spaces between words: two neighbouring characters serve for a word."""


@cache
def _plain(character: str) -> str:
    return unicodedata.normalize("NFKC", character).casefold()


def code_points(lines: Iterable[str]) -> tuple[Array, Array]:
    r"""The code points of all lines, each ended by ``\n``, and for each the number of its line.

    The text is folded: there are no differences of case and of width (nearly NFKC and case folding, but faster).
    """
    text = "\n".join([*lines, ""]).casefold()
    characters = set(text)
    if marks := "".join(c for c in characters if unicodedata.combining(_plain(c)[0])):  # they may join others
        marked = re.compile(f"[{re.escape(marks)}]").search
        text = "\n".join(unicodedata.normalize("NFKC", line) if marked(line) else line for line in text.split("\n"))
    for character in characters:
        if len(_plain(character)) != 1:
            text = text.replace(character, _plain(character))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = classify(codes, lambda character: ord(_plain(character)[0])).astype(np.uint32)
    end = codes == _NEWLINE
    return codes, np.cumsum(end) - end


def classify(codes: Array, kind: Callable[[str], int]) -> Array:
    """A number for every code point [n], asking ``kind`` only once for each character that occurs."""
    present = np.flatnonzero(np.bincount(codes))
    table = np.zeros(present[-1] + 1 if len(present) else 1, np.int32)
    table[present] = [kind(chr(code)) for code in present.tolist()]
    values: Array = table[codes]
    return values


def distinct(keys: Array) -> Array:
    """Sorted, each once: ``np.unique``, which is slower by far in some versions of NumPy."""
    keys = np.sort(keys)
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)]]


@cache
def _kind(character: str) -> int:
    """0: no part of a word; 1: of a word between spaces; 2: of a script without spaces."""
    if unicodedata.category(character)[0] not in "LMN":
        return 0
    return 2 if script(character) in UNSPACED else 1


def words(lines: Sequence[str], characters: int, bits: int) -> tuple[Array, Array]:
    """The different words of each line's first ``characters``: line numbers and hashes below 2^bits, both sorted."""
    codes, line = code_points(text[:characters] for text in lines)
    kind = classify(codes, _kind)
    inside = kind == 1
    starts = np.flatnonzero(inside & ~np.concatenate(([False], inside[:-1])))
    first = np.zeros(len(codes), np.int64)
    first[starts] = starts
    place = np.arange(len(codes)) - np.maximum.accumulate(first)
    counted = inside & (place < _PREFIX)
    letters = np.where(counted, codes * _ODD[np.where(counted, place, 0)], np.uint64(0))
    two = np.flatnonzero((kind[:-1] == 2) & (kind[1:] == 2))
    spaced = np.add.reduceat(letters, starts) if len(starts) else np.zeros(0, np.uint64)
    hashes = np.concatenate([spaced, codes[two] * _ODD[0] + codes[two + 1] * _ODD[1]])
    keys = distinct(np.concatenate([line[starts], line[two]]) << bits | _top_bits(hashes, bits))
    return keys >> bits, keys & ((1 << bits) - 1)


def trigrams(lines: Sequence[str], characters: int, bits: int) -> tuple[Array, Array]:
    """Trigrams of the folded first ``characters`` of each line: line numbers and hashes below 2^bits.

    Every run of what is not a letter counts as one space, and a line starts and ends with one.
    """
    codes, line = code_points(f" {text[:characters]} " for text in lines)
    letter = classify(codes, lambda character: unicodedata.category(character)[0] in "LM")
    kept = (letter != 0) | np.concatenate(([True], letter[:-1] != 0)) & (codes != _NEWLINE)
    kept |= np.concatenate(([True], line[1:] != line[:-1]))
    codes, line, letter = codes[kept], line[kept], letter[kept]
    codes = np.where(letter != 0, codes, np.uint32(_NEWLINE)).astype(np.uint64)
    whole = (line[2:] == line[:-2]) & (letter[1:-1] != 0)
    hashes = codes[:-2] * _ODD[0] + codes[1:-1] * _ODD[1] + codes[2:] * _ODD[2]
    return line[2:][whole], _top_bits(hashes[whole], bits)


def _top_bits(hashes: Array, bits: int) -> Array:
    """The last step of multiplicative hashing: 64 bits to the best few, as int64."""
    mixed = (hashes ^ (hashes >> np.uint64(29))) * _ODD[4]
    kept: Array = (mixed >> np.uint64(64 - bits)).astype(np.int64)
    return kept

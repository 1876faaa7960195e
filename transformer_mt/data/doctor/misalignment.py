"""Stretches of a parallel text in which a line's translation is the neighbour of the line that should be it.

Whether two lines translate each other is judged by their lengths (Gale and Church 1993) and by words that go together,
both learnt from the text itself: the log-likelihood ratio of what lines i and i look like, against any two lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from transformer_mt.data.doctor.letters import CHUNK, Array, words

SMALLEST = 100
"""Pairs; from fewer nothing is learnt."""

_STRANGERS = (-19, 13, 29)  # lines away, where no translation is, but lines that are alike when the text is sorted
_OFFSETS = range(-4, 5)  # that are tried: lines down the target file
_CHARACTERS = 300  # of a line are read for its words
_WORD_BITS, _PAIR_BITS = 20, 24  # sizes of hash tables
_KEEP, _RARE = 12, 3  # of a line's words, this many of the least frequent that occur in so many lines or more
_LEARN = 50_000  # pairs to learn which words go together; below 2^16, so that counts are small
_FOLDS, _STRETCH = 4, 100  # words are judged by what the other folds say, which are of stretches of consecutive lines
_BINS = 10
_CAP = 3.0  # nats: no single line proves anything
UNRELATED = 0.15
"""Nats a line by which the lines of a text fit at the most when none is the translation of the other."""

_MOST = 20  # stretches are told
_CLEAR = 0.5  # nats a line: most lines have their translation where it should be (unrelated lines: under 0.15)
_CERTAIN = 8.0  # nats beyond the logarithm of the lines; by chance they reach 0 now and then, and 1 with odds of e^-1
_WINDOW = 9  # lines over which a misfit must last to be looked into


@dataclass(frozen=True)
class Shift:
    """Source line i fits target line ``i + offset`` better than line i, for ``first <= i <= last``, counted from 0.

    ``gain`` is the log-likelihood ratio (nats) of that; ``fit`` and ``shifted_fit`` are nats per line, without and with
    the shift, where unrelated lines are below 0.
    """

    first: int
    last: int
    offset: int
    gain: float
    fit: float
    shifted_fit: float


class Aligner:
    """What is learnt from a text of how lines fit that translate each other. Costs 200 MB, whatever the text."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.count = len(sources)
        self._stretch = max(1, min(_STRETCH, self.count // 20))
        self.lengths = [np.fromiter(map(len, side), np.float64, self.count) for side in (sources, targets)]
        self.words, self.frequencies = zip(*(_rare_words(side) for side in (sources, targets)), strict=True)
        self.vocabulary = min(int((frequency >= _RARE).sum()) for frequency in self.frequencies)
        rows = _sample(self.count, _LEARN)
        self.base, self.information = 0, self._learn(0, rows)
        if self.information < _CLEAR:  # perhaps all of the text is shifted
            few = _sample(self.count, _LEARN // 10)
            tried = {offset: self._learn(offset, few) for offset in sorted(_OFFSETS, key=abs)}
            self.base = max(tried, key=lambda offset: tried[offset])
            self.information = self._learn(self.base, rows)

    def _learn(self, offset: int, rows: Array) -> float:
        """Learn from source lines ``rows`` and the targets at ``offset``; return the mean nats by which they fit."""
        rows = rows[(rows + offset >= 0) & (rows + offset < self.count)]
        bits = min(_PAIR_BITS, max(16, int(len(rows) * _KEEP**2).bit_length() + 1))
        self._bits, self._learnt = bits, len(rows) * (1 - 1 / _FOLDS)
        self._tables = np.zeros((_FOLDS, 1 << bits), np.uint16)
        for fold in range(_FOLDS):
            for part in _parts(rows[self._folds(rows) == fold]):
                x, y = self.words[0][part], self.words[1][part + offset]
                together = self._pairs(x, y)[(x >= 0)[:, :, None] & (y >= 0)[:, None, :]]
                self._tables[fold] += np.bincount(together, minlength=1 << bits).astype(np.uint16)
        self._tables = self._tables.sum(0, dtype=np.uint16) - self._tables
        ratio = np.log((self.lengths[1][rows + offset] + 1) / (self.lengths[0][rows] + 1))
        self._log_ratio = float(np.median(ratio))
        strangers = [(rows + offset + jump) % self.count for jump in _STRANGERS]
        true = self._features(rows, rows + offset)
        unrelated = [self._features(rows, other) for other in strangers]
        false = np.concatenate([fit for fit, _ in unrelated]), np.concatenate([misfit for _, misfit in unrelated])
        self._edges = [
            np.unique(np.quantile(np.concatenate([t, f]), np.arange(1, _BINS) / _BINS))
            for t, f in zip(true, false, strict=True)
        ]
        p, q = (np.bincount(self._bin(features), minlength=_BINS**2) + 1.0 for features in (true, false))
        self._ratios = np.clip(np.log(p / p.sum()) - np.log(q / q.sum()), -_CAP, _CAP)
        return float(self._ratios[self._bin(true)].mean())

    def _folds(self, rows: Array) -> Array:
        folds: Array = rows // self._stretch % _FOLDS
        return folds

    def _pairs(self, x: Array, y: Array) -> Array:
        """Hashes of all pairs of words of the rows of x and y: [n, K], [n, K] -> [n, K, K]."""
        hashed = (x.astype(np.uint32) * np.uint32(2654435761))[:, :, None] + (
            y.astype(np.uint32) * np.uint32(2246822519)
        )[:, None, :]
        return hashed >> np.uint32(32 - self._bits)

    def _features(self, rows: Array, others: Array) -> tuple[Array, Array]:
        """How well words, and how badly lengths, of source lines ``rows`` and target lines ``others`` agree."""
        source, target = self.lengths[0][rows], self.lengths[1][others]
        misfit = np.abs(np.log((target + 1) / (source + 1)) - self._log_ratio) * np.sqrt(np.minimum(source, target) + 1)
        fit, folds = np.empty(len(rows), np.float32), self._folds(rows)
        for fold in range(_FOLDS):
            for part in _parts(np.flatnonzero(folds == fold)):
                fit[part] = self._association(rows[part], others[part], self._tables[fold])
        return fit, misfit

    def _association(self, rows: Array, others: Array, table: Array) -> Array:
        """Each word's best pointwise mutual information with one of the other side, on average; -1 without words."""
        x, y = self.words[0][rows], self.words[1][others]
        p, q = (f[w].astype(np.float32) / self.count for f, w in zip(self.frequencies, (x, y), strict=True))
        by_chance = (p * np.float32(self._learnt))[:, :, None] * q[:, None, :]
        strength = np.log((table[self._pairs(x, y)] + np.float32(2)) / (by_chance + np.float32(2)))
        same = np.clip(-np.log(np.maximum(p, 1e-9)) - 2, 0, 5)  # numbers, names
        strength = np.maximum(strength, np.where(x[:, :, None] == y[:, None, :], same[:, :, None], 0))
        strength *= (x >= 0)[:, :, None] & (y >= 0)[:, None, :]
        sizes = np.maximum((x >= 0).sum(1), 1), np.maximum((y >= 0).sum(1), 1)
        mean = (strength.max(2).sum(1) / sizes[0] + strength.max(1).sum(1) / sizes[1]) / 2
        return np.where((x >= 0).any(1) & (y >= 0).any(1), mean, -1)

    def _bin(self, features: tuple[Array, Array]) -> Array:
        fit, misfit = (np.searchsorted(e, f, "right") for e, f in zip(self._edges, features, strict=True))
        return fit * _BINS + misfit

    def fit(self, rows: Array, offset: int) -> Array:
        """How well source lines ``rows`` fit the target lines ``offset`` further on: log-likelihood ratios, capped.

        0 where there is no such line.
        """
        inside = (rows + offset >= 0) & (rows + offset < self.count)
        ratios = np.zeros(len(rows))
        for part in _parts(np.flatnonzero(inside)):
            ratios[part] = self._ratios[self._bin(self._features(rows[part], rows[part] + offset))]
        return ratios


def shifts(aligner: Aligner) -> list[Shift]:
    """The stretches that are shifted, in the order of the text; none when nothing in it fits anything.

    In a text of n lines without fault the gain of some stretch exceeds T with a probability of about n·e^-T.
    """
    if aligner.information < UNRELATED:
        return []
    fit = aligner.fit(np.arange(aligner.count), aligner.base)
    poor = np.convolve(fit, np.ones(_WINDOW), "same") < 0
    suspects = np.flatnonzero(np.convolve(poor, np.ones(2 * _WINDOW + 1), "same") > 0)
    gains = {offset: np.minimum(-fit, 0) for offset in _OFFSETS if offset != aligner.base}
    for offset, gain in gains.items():
        gain[suspects] = aligner.fit(suspects, offset) - fit[suspects]
    offsets = np.full(aligner.count, aligner.base)
    for _ in range(_MOST):
        (total, first, last), offset = max((_best_stretch(gain), offset) for offset, gain in gains.items())
        if total < np.log(aligner.count) + _CERTAIN:
            break
        offsets[first : last + 1] = offset
        for gain in gains.values():
            gain[first : last + 1] = -_CAP  # told
    starts = np.flatnonzero(np.diff(offsets, prepend=0, append=0))
    runs = [(int(a), int(b) - 1, int(offsets[a])) for a, b in pairwise(starts) if offsets[a]]
    return [_shift(aligner, *run) for run in runs]


def _shift(aligner: Aligner, first: int, last: int, offset: int) -> Shift:
    rows = np.arange(first, last + 1)
    here, there = aligner.fit(rows, 0), aligner.fit(rows, offset)
    return Shift(first, last, offset, float((there - here).sum()), float(here.mean()), float(there.mean()))


def _best_stretch(gain: Array) -> tuple[float, int, int]:
    """The stretch of the largest sum: the sum, and its first and last line (Kadane's algorithm)."""
    sums = np.concatenate(([0.0], np.cumsum(gain)))
    rises = sums[1:] - np.minimum.accumulate(sums)[:-1]
    last = int(rises.argmax())
    return float(rises[last]), int(sums[: last + 1].argmin()), last


def _parts(rows: Array) -> list[Array]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _sample(count: int, size: int) -> Array:
    """All rows, or about ``size`` of them in stretches of consecutive ones."""
    if count <= size:
        return np.arange(count)
    starts = np.linspace(0, count - _STRETCH, size // _STRETCH).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(_STRETCH))


def _rare_words(lines: Sequence[str]) -> tuple[Array, Array]:
    """For each line its least frequent words [n, K], -1 where there are fewer; and in how many lines each word is."""
    frequencies = np.zeros(1 << _WORD_BITS, np.int64)
    found = []
    for start in range(0, len(lines), CHUNK):
        line, word = words(lines[start : start + CHUNK], _CHARACTERS, _WORD_BITS)
        frequencies += np.bincount(word, minlength=len(frequencies))
        found.append((line.astype(np.int32) + start, word.astype(np.int32)))
    rows = np.full((len(lines), _KEEP), -1, np.int32)
    for line, word in found:
        known = frequencies[word] >= _RARE
        line, word = line[known], word[known]
        order = np.lexsort((frequencies[word], line))
        line, word = line[order], word[order]
        rank = np.arange(len(line)) - np.searchsorted(line, line)
        rows[line[rank < _KEEP], rank[rank < _KEEP]] = word[rank < _KEEP]
    return rows, frequencies

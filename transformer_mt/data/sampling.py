"""Subwords drawn at random: another segmentation of a line at every visit.

SentencePiece can draw too, but its random numbers are others in every process, whatever the seed. Here lines, alpha
and seed alone decide, in every process.
"""

import random
from array import array
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate, islice, pairwise
from math import exp, log
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_mt.data.store import Array

_SHORT = 24  # characters: what is found out about shorter segments is kept, for they come again
_KEPT = 60_000  # segments, or their outcomes: 30 to 60 MB; those that come first are mostly the frequent ones

_Ids = tuple[int, ...]  # of pieces
_Random = Callable[[], float]  # uniform in [0, 1)


class Sampler:
    """Draws segmentations of lines in pieces of a SentencePiece model.

    From a **unigram** model: P(x) ∝ Π p(piece)^alpha over all segmentations x of a line (Kudo 2018, with l = ∞).
    From a **BPE** model: each merge of two neighbouring pieces is left out with probability alpha, for good, when its
    turn comes (BPE-dropout as SentencePiece does it; Provilkov et al. 2020 draw anew for all before each merge).

    A line is cut where no piece of the vocabulary could cross, as before a space. The *segments* between the cuts are
    independent of each other, and most of them have been seen before.
    """

    def __init__(self, model: Any, alpha: float) -> None:
        vocabulary = _Vocabulary(model)
        self._model = model
        self._kind = (_Unigram if _is_unigram(model) else _Bpe)(vocabulary, alpha)
        neighbours = {ord(a) << 32 | ord(b) for piece in vocabulary.pieces for a, b in pairwise(piece)}
        self._neighbours = np.array(sorted(neighbours), np.uint64)  # pairs of characters that are within a piece

    def sample(self, lines: Sequence[str], seed: int) -> list[list[int]]:
        """The ids of the pieces of each line: always the same for a ``seed``."""
        uniform = random.Random(seed).random  # the one stream that Python promises never to change
        return [self._kind.draw(segments, uniform) for segments in self._segments(self._model.normalize(list(lines)))]

    def _segments(self, lines: Sequence[str]) -> Iterator[Iterable[str]]:
        """The segments of each line."""
        text = "".join(lines)
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
        ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
        cut = np.ones(len(codes) + 1, bool)  # before each character, and at the end
        cut[1:-1] = ~_contains(self._neighbours, codes[:-1] << np.uint64(32) | codes[1:])
        cut[ends] = True
        segments = (text[start:end] for start, end in pairwise(np.flatnonzero(cut).tolist()))
        counts = np.diff(np.cumsum(cut)[ends], prepend=1)
        return (islice(segments, count) for count in counts.tolist())


class _Vocabulary:
    """The pieces that text can be cut into, with ids and scores; a character without a piece is written in bytes."""

    def __init__(self, model: Any) -> None:
        special = (model.is_control, model.is_unknown, model.is_byte)
        numbers = [i for i in range(model.get_piece_size()) if not any(is_kind(i) for is_kind in special)]
        self.pieces: dict[str, tuple[int, float]] = {model.id_to_piece(i): (i, model.get_score(i)) for i in numbers}
        self.longest = max(map(len, self.pieces))
        self._bytes = [model.piece_to_id(f"<0x{byte:02X}>") for byte in range(256)]

    def ids(self, text: str) -> _Ids:
        """Of a piece, or of a character that has none."""
        return (self.pieces[text][0],) if text in self.pieces else tuple(self._bytes[byte] for byte in text.encode())


_Way = tuple[int, _Ids]  # on from a place in a segment: so many characters, in these pieces
# The ways from all places of a segment, the last place first; the upper bounds of their shares of [0, 1) at a place;
# and where those of a place begin, by the number of characters left from there, less one.
_Lattice = tuple[tuple[_Way, ...], "array[float]", tuple[int, ...]]


class _Unigram:
    """Backward filtering, forward sampling: the exact distribution, in time O(length · longest piece).

    Machines agree, unless a draw falls into the last bits in which their exp and log may differ.
    """

    def __init__(self, vocabulary: _Vocabulary, alpha: float) -> None:
        self._vocabulary = vocabulary
        self._ways: dict[str, tuple[float, _Way]] = {
            piece: (alpha * score, (len(piece), (number,))) for piece, (number, score) in vocabulary.pieces.items()
        }
        self._known: dict[str, _Lattice] = {}

    def draw(self, segments: Iterable[str], uniform: _Random) -> list[int]:
        ids: list[int] = []
        for segment in segments:
            ways, bounds, first = self._known.get(segment) or self._lattice(segment)
            left = len(segment)
            while left:
                length, pieces = ways[bisect(bounds, uniform(), first[left - 1], first[left] - 1)]
                ids += pieces
                left -= length
        return ids

    def _lattice(self, segment: str) -> _Lattice:
        size, longest = len(segment), self._vocabulary.longest
        ways: list[_Way] = []
        bounds = array("d")
        first = [0]
        rest = [0.0]  # by characters left: log of the sum of all segmentations of these
        for left in range(1, size + 1):
            start = size - left
            character = segment[start]
            # A character without a piece is in no longer one: any weight will do, all segmentations have it in common.
            weight, way = self._ways.get(character) or (0.0, (1, self._vocabulary.ids(character)))
            ways.append(way)
            logs = [weight + rest[-1]]
            for length in range(2, min(longest, left) + 1):
                if found := self._ways.get(segment[start : start + length]):
                    ways.append(found[1])
                    logs.append(found[0] + rest[left - length])
            top = max(logs)
            sums = list(accumulate([exp(value - top) for value in logs]))
            bounds.extend([value / sums[-1] for value in sums])
            first.append(len(ways))
            rest.append(top + log(sums[-1]))
        lattice = tuple(ways), bounds, tuple(first)
        if size <= _SHORT and len(self._known) < _KEPT:
            self._known[segment] = lattice
        return lattice


class _Bpe:
    """Merges, best first, of which some are left out.

    The outcome for a short segment is kept by the turns that were left out (mostly none or one), with the number of
    turns that there were: a chance is drawn for each turn, in order, whether the outcome is known already or not.
    """

    def __init__(self, vocabulary: _Vocabulary, alpha: float) -> None:
        self._vocabulary = vocabulary
        self._alpha = alpha
        self._ranks = {piece: -score for piece, (_, score) in vocabulary.pieces.items()}
        self._known: dict[tuple[str, _Ids], tuple[_Ids, int]] = {}

    def draw(self, segments: Iterable[str], uniform: _Random) -> list[int]:
        known, alpha = self._known, self._alpha
        ids: list[int] = []
        for segment in segments:
            left_out: _Ids = ()
            turn = 0
            while outcome := known.get((segment, left_out)):
                pieces, turns = outcome
                while turn < turns and uniform() >= alpha:
                    turn += 1
                if turn == turns:
                    break
                left_out = (*left_out, turn)
                turn += 1
            else:
                pieces = self._merge(segment, left_out, turn, uniform)
            ids += pieces
        return ids

    def _merge(self, segment: str, left_out: _Ids, drawn: int, uniform: _Random) -> _Ids:
        """Merge in a ``segment``. Of the first ``drawn`` turns it is known which are ``left_out``."""
        ranks, size = self._ranks, len(segment)
        ends = list(range(1, size + 1))  # of the piece that starts there; 0 where none does
        starts = list(range(-1, size))  # of the piece that ends there
        queue = [
            (ranks[pair], start, start + 1, start + 2)  # merges: rank, start, middle, end
            for start in range(size - 1)
            if (pair := segment[start : start + 2]) in ranks
        ]
        heapify(queue)
        turn, skipped = 0, list(left_out)
        while queue:
            _, start, middle, end = heappop(queue)
            if ends[start] != middle or ends[middle] != end:
                continue  # one of the two has been merged with another
            turn += 1
            if turn > drawn and uniform() < self._alpha:
                skipped.append(turn - 1)
                continue
            if turn <= drawn and turn - 1 in left_out:
                continue
            ends[start], ends[middle], starts[end] = end, 0, start
            if start and (rank := ranks.get(segment[starts[start] : end])) is not None:
                heappush(queue, (rank, starts[start], start, end))
            if end < size and (rank := ranks.get(segment[start : ends[end]])) is not None:
                heappush(queue, (rank, start, end, ends[end]))
        ids: list[int] = []
        start = 0
        while start < size:
            ids += self._vocabulary.ids(segment[start : ends[start]])
            start = ends[start]
        if size <= _SHORT and len(self._known) < _KEPT:
            self._known[segment, tuple(skipped)] = tuple(ids), turn
        return tuple(ids)


def _is_unigram(model: Any) -> bool:
    try:
        model.nbest_encode_as_ids("", 1)
    except RuntimeError:  # only unigram models know it
        return False
    return True


def _contains(ordered: Array, values: Array) -> npt.NDArray[np.bool_]:
    """Which ``values`` are among the ``ordered`` ones."""
    places = np.searchsorted(ordered, values)
    return np.append(ordered, ordered[-1:])[places] == values if len(ordered) else np.zeros(len(values), np.bool_)

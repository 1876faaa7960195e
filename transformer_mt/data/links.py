"""Word links of training pairs: from lines in Pharaoh's format to what a model should attend to (Chen et al. 2016)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transformer_mt.data.store import Array, Pieces
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import DataError
from transformer_mt.special import EOS, PAD

Mask = npt.NDArray[np.bool_]


def parse_links(line: str, words: tuple[int, int], where: str) -> list[tuple[int, int]]:
    """The links of a line, ``i-j``, between so many ``words`` of source and target, both from 0.

    Raises DataError, saying ``where``.
    """
    found = []
    for item in line.split():
        match = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", item)
        if match is None:
            raise DataError(f"{where}: '{item}' is no link; expected numbers of words such as 0-2, the source's first")
        found.append((int(match[1]), int(match[2])))
        if found[-1][0] >= words[0] or found[-1][1] >= words[1]:
            raise DataError(f"{where}: {item} links words that are not there, of {words[0]} and {words[1]}; count from "
                            "0, the source first")  # fmt: skip
    return found


def word_starts(tokenizer: Tokenizer) -> tuple[Mask, Mask]:
    """Which pieces of the source's and of the target's vocabulary begin a word, [V] each."""
    source, target = ([p.startswith("▁") for p in tokenizer.pieces(side)] for side in ("source", "target"))
    return np.array(source), np.array(target)


def encode_links(lines: Sequence[str], texts: Sequence[Sequence[str]], ids: Sequence[Pieces],
                 starts: Sequence[Mask]) -> Pieces:  # fmt: skip
    """Lines of links, parsed before, as the store holds them; ``texts``, ``ids`` and ``starts`` are of both sides.

    A pair whose pieces do not make the words of its text, such as around a space that does not break, has no links.
    """
    same = np.ones(len(lines), bool)
    for text, side, begins in zip(texts, ids, starts, strict=True):
        before = np.append(0, np.cumsum(begins[side.ids]))[side.offsets]  # of each pair: the words of those before it
        same &= np.diff(before) == [len(line.split()) for line in text]
    numbers = ([int(n) for n in re.findall("[0-9]+", line)] for line in lines)
    return Pieces.of(pair if fits else [] for pair, fits in zip(numbers, same.tolist(), strict=True))


@dataclass(frozen=True)
class Links:
    """The links of pairs: of pair i ``words[i]``, which is a source word, a target word, a source word, and so on.

    ``starts`` says which pieces begin a word, so that the pieces may be drawn at random.
    """

    words: Pieces
    starts: tuple[Mask, Mask]

    def visited(self, rows: Array) -> "Links":
        """The links of ``rows`` in that order, which may repeat."""
        return replace(self, words=Pieces.of(self.words[row] for row in rows.tolist()))

    def guide(self, rows: Array, source: Array, target: Array) -> npt.NDArray[np.float32]:
        """What target ids [B, T] of ``rows`` [B] should attend to in source ids [B, S]: [B, T, S].

        A piece of a word attends evenly to all pieces of the words that it is linked to, its row then sums to 1; the
        rows of all others are 0, and end tokens have no links.
        """
        pairs = self.words.padded(rows, fill=-1).reshape(len(rows), -1, 2)  # [B, links, 2]
        linked = np.zeros((len(rows), target.shape[1] + 1, source.shape[1] + 1), np.float32)  # target, source words
        sentence = np.arange(len(rows))[:, None]
        linked[sentence, pairs[:, :, 1], pairs[:, :, 0]] = 1
        linked[:, -1] = linked[:, :, -1] = 0  # number -1 is no word
        of_source, of_target = (_words(ids, begins) for ids, begins in zip((source, target), self.starts, strict=True))
        guide = linked[sentence[:, :, None], of_target[:, :, None], of_source[:, None, :]]
        return guide / np.maximum(guide.sum(2, keepdims=True), 1)  # type: ignore[no-any-return]


def _words(ids: Array, starts: Mask) -> Array:
    """The number of the word that each piece of ids [B, N] is part of; -1 for end tokens and padding."""
    return np.where((ids == PAD) | (ids == EOS), -1, starts[ids].cumsum(1) - 1)

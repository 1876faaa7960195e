"""The state of decoding, passed explicitly from step to step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_mt.model.attention import KeyValue
from transformer_mt.model.layout import Layout


def filled_up(keys: int, head_width: int) -> int:
    """The number that keys are filled up to: a multiple of 4, and 400 multiplications at least.

    It makes the float32 arithmetic of a few queries on a CPU independent of how long the others in a batch are:
    PyTorch has other kernels for fewer.
    """
    fewest = 16 * -(-400 // (16 * head_width))
    return max(-(-keys // 4) * 4, fewest)


@dataclass
class Memory:
    """The encoded source: hidden [1, M, D] as ``layout`` says; bias [B, 1, 1, S] (minus infinity: padding)."""

    hidden: Tensor
    bias: Tensor
    layout: Layout


class Cache:
    """Keys and values of what is written so far, 1 or N rows a position, with room to spare."""

    def __init__(self, memory: KeyValue) -> None:
        self.length = 0  # rows written
        self._key = memory.key[:, :, :0]
        self._value = self._key

    def append(self, new: KeyValue) -> None:
        """Add one position: keys and values [B, H, N, K]."""
        end = self.length + new.key.shape[2]
        if end > self._key.shape[2]:
            self._grow(end + max(15 * new.key.shape[2], self.length))  # 16 positions, or twice what there is
        self._key[:, :, self.length : end] = new.key
        self._value[:, :, self.length : end] = new.value
        self.length = end

    def _grow(self, rows: int) -> None:
        before = self.read()
        self._key, self._value = (x.new_empty(*x.shape[:2], rows, x.shape[3]) for x in (before.key, before.value))
        self._key[:, :, : self.length], self._value[:, :, : self.length] = before.key, before.value

    def read(self, last: int | None = None) -> KeyValue:
        """All of it, [B, H, rows written, K], or the ``last`` rows."""
        start = 0 if last is None else max(0, self.length - last)
        return KeyValue(self._key[:, :, start : self.length], self._value[:, :, start : self.length])

    def select(self, sentences: Tensor) -> None:
        """Keep ``sentences`` [B'], in that order."""
        self._key, self._value = take(self._key, sentences), take(self._value, sentences)


def take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows [R'] of x [R, ...]; when they are no more than before, only those that move are copied, in place."""
    if len(rows) > len(x):
        return x[rows]
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
    if len(moved):
        x.index_copy_(0, moved, x[rows[moved]])
    return x[: len(rows)]


@dataclass
class State:
    """What a Transformer needs to write the next token of R = B · N rows, the rows of a sentence side by side.

    Keys and values stay where they were written. What a beam continues is told by ``ancestors`` alone: row n of a
    sentence attends, of each position's rows, to the one that it descends from.
    """

    written: list[Cache]  # one a decoder layer
    memory: list[KeyValue]  # likewise, [B, H, S, K]
    memory_bias: Tensor  # [B, 1, 1, S]
    ancestors: Tensor  # the bias [B, N, rows written], 0 = may attend, else minus infinity; unused while N is 1
    length: int = 0  # positions written

    def advance(self) -> Tensor | None:
        """Make ready for the next position; the bias [B, 1, N, rows written] of attention to them, none if N is 1."""
        sentences, beam, _ = self.ancestors.shape
        self.length += 1
        if beam == 1:
            return None
        itself = self.ancestors.new_full((beam, beam), float("-inf")).fill_diagonal_(0.0)
        self.ancestors = torch.cat((self.ancestors, itself.expand(sentences, -1, -1)), dim=2)
        return self.ancestors[:, None]

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` [B', N], those of a sentence side by side; they may repeat or be fewer, and a lone one many."""
        before, beam, positions = self.ancestors.shape
        sentences = rows[:, 0] // beam  # [B']
        if len(sentences) != before or not torch.equal(sentences, torch.arange(before, device=rows.device)):
            for cache in self.written:
                cache.select(sentences)
            self.memory = [KeyValue(take(m.key, sentences), take(m.value, sentences)) for m in self.memory]
            self.memory_bias = take(self.memory_bias, sentences)
            self.ancestors = self.ancestors[sentences]
        if beam == 1 < rows.shape[1]:
            self.ancestors = self.ancestors.new_zeros(*rows.shape, self.length)
        elif beam > 1:
            self.ancestors = self.ancestors.gather(1, (rows % beam)[:, :, None].expand(-1, -1, positions))

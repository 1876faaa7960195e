"""The state of decoding, passed explicitly from step to step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_mt.model.attention import KeyValue
from transformer_mt.model.masks import attention_bias


def key_multiple(head_width: int) -> int:
    """The number that key lengths are filled up to a multiple of.

    It makes the float32 arithmetic on a CPU independent of how long the others in a batch are: vectors of 16 numbers
    are always full, and no product is of the few (below 400 multiplications) for which PyTorch has another kernel.
    """
    return 16 * -(-400 // (16 * head_width))


@dataclass
class Memory:
    """The encoded source: hidden [B, S, D], bias [B, 1, 1, S] (minus infinity at padding)."""

    hidden: Tensor
    bias: Tensor


class Cache:
    """Keys and values of the target positions written so far, with room to spare."""

    def __init__(self, rows: int, heads: int, head_width: int, like: Tensor) -> None:
        self.length, self.multiple = 0, key_multiple(head_width)
        self.key = like.new_zeros(rows, heads, 0, head_width)
        self.value = self.key

    def append(self, new: KeyValue) -> None:
        """Add one position: keys and values [R, H, 1, K]."""
        if self.length == self.key.shape[2]:
            room = new.key.new_zeros(*new.key.shape[:2], self.multiple, new.key.shape[3])
            self.key = torch.cat((self.key.to(room.dtype), room), dim=2)
            self.value = torch.cat((self.value.to(room.dtype), room), dim=2)
        self.key[:, :, self.length] = new.key[:, :, 0]
        self.value[:, :, self.length] = new.value[:, :, 0]
        self.length += 1

    def read(self) -> KeyValue:
        """All of it, [R, H, room, K]; the positions not yet written are hidden by :meth:`bias`."""
        return KeyValue(self.key, self.value)

    def bias(self) -> Tensor:
        """The bias [room] that hides what is not yet written."""
        written = torch.arange(self.key.shape[2], device=self.key.device) < self.length
        return attention_bias(written, self.key.dtype)

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` [R'], in that order."""
        self.key, self.value = self.key.index_select(0, rows), self.value.index_select(0, rows)


@dataclass
class State:
    """What a Transformer needs to write the next token of R = B · beam rows, the rows of a sentence side by side."""

    written: list[Cache]  # one a decoder layer
    memory: list[KeyValue]  # likewise, [B, H, S, K]
    memory_bias: Tensor  # [B, 1, 1, S]
    beam: int

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` [R'] in that order; they may repeat or be fewer, ``beam`` of one sentence side by side."""
        for cache in self.written:
            cache.select(rows)
        sentences = rows[:: self.beam] // self.beam  # [B']
        if len(sentences) != len(self.memory_bias) or not torch.equal(
            sentences, torch.arange(len(sentences), device=rows.device)
        ):
            self.memory = [KeyValue(m.key[sentences], m.value[sentences]) for m in self.memory]
            self.memory_bias = self.memory_bias[sentences]

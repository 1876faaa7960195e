"""Attention: softmax(score(Q, K)) V, and many heads of it (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt.model.layout import Layout
from transformer_mt.model.linear import Linear, matmul
from transformer_mt.model.scores import Dot, ScaledDot

_VECTOR = 16  # float32 numbers of a CPU's widest vectors
Rotate = Callable[[Tensor], Tensor]  # rotary positions; the same shape


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, score: Dot | None = None
) -> tuple[Tensor, Tensor]:
    """Attention by a score, that of the scaled dot product unless another is given.

    query [..., T, K], prepared key [..., S, K], value [..., S, K] and a bias that broadcasts to [..., T, S] (minus
    infinity where a query may not attend) → output [..., T, K] and weights [..., T, S].
    """
    scores = (score or ScaledDot(query.shape[-1]))(query, key)  # [..., T, S]
    if bias is not None:
        scores = scores + bias
    weights = softmax(scores)
    return matmul(weights.to(value.dtype), value), weights


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension of scores [..., S], in float32 at least."""
    precision = torch.promote_types(scores.dtype, torch.float32)
    count = scores.size(-1)
    if count >= _VECTOR or not scores.is_cpu:
        return torch.softmax(scores, -1, precision)
    # PyTorch takes rows that do not fill a vector number by number, which is eight times as long.
    filled = F.pad(scores, (0, _VECTOR - count), value=float("-inf"))
    return torch.softmax(filled, -1, precision)[..., :count]


@dataclass
class KeyValue:
    """Keys, prepared for their score, and values; [B, H, S, K] each."""

    key: Tensor
    value: Tensor


class Full(nn.Module):
    """Every query sees every key. Other ways to attend restrict this one: see window.py and fast_weights.py."""

    reach: int | None = None  # how many positions back a query sees; None: all

    def __init__(self, score: Dot) -> None:
        super().__init__()
        self.score = score

    def prepare(self, key: Tensor) -> Tensor:
        """What is done to keys [..., S, K] once, before any query; the same shape."""
        return self.score.prepare(key)

    def forward(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries [B, H, T, K] → output [B, H, T, K] and weights [B, H, T, S]; the bias alone says who sees what."""
        return attend(query, memory.key, memory.value, bias, self.score)

    def among(self, query: Tensor, memory: KeyValue, bias: Tensor, *, causal: bool) -> Tensor:
        """The output [B, H, S, K] of S positions that attend to one another, ``causal`` to none after them.

        The bias hides what comes later, [S, S], or padding, [B, 1, 1, S].
        """
        return self(query, memory, bias)[0]  # type: ignore[no-any-return]


class MultiHeadAttention(nn.Module):
    """H heads of width K = D / H, each with its own projections of queries, keys and values."""

    def __init__(self, width: int, heads: int, mix: Full | None = None) -> None:
        super().__init__()
        self.heads, self.mix = heads, mix or Full(ScaledDot(width // heads))
        self.query, self.key, self.value, self.output = (Linear(width, width) for _ in range(4))

    def _split(self, x: Tensor, layout: Layout | None) -> Tensor:
        """In memory as in shape: else products of one sentence would have another kernel."""
        return split_heads(x, 1, self.heads, layout)[0].contiguous()

    def project(self, memory: Tensor, layout: Layout | None = None) -> KeyValue:
        """Keys and values of ``memory`` [B, S, D], or [1, M, D] with a layout."""
        key, value = (self._split(map_(memory), layout) for map_ in (self.key, self.value))
        return KeyValue(self.mix.prepare(key), value)

    def project_all(self, x: Tensor, rotate: Rotate | None, layout: Layout | None = None) -> tuple[Tensor, KeyValue]:
        """Queries [B, H, T, K], keys and values of x [B, T, D]; ``rotate`` turns queries and keys."""
        query, key, value = (self._split(map_(x), layout) for map_ in (self.query, self.key, self.value))
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        return query, KeyValue(self.mix.prepare(key), value)

    def forward(
        self, x: Tensor, memory: KeyValue, bias: Tensor | None, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor]:
        """x [B, T, D] attends to ``memory`` (keys [B, H, S, K]); returns [B, T, D] and the weights [B, H, T, S].

        With a layout x and what is returned for it are [1, M, D].
        """
        return self.attend(self._split(self.query(x), layout), memory, bias, layout)

    def attend(
        self, query: Tensor, memory: KeyValue, bias: Tensor | None, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor]:
        """Queries [B, H, T, K] attend to ``memory``; the rest is as in :meth:`forward`."""
        heads, weights = self.mix(query, memory, bias)
        return self.output(join_heads(heads, layout)), weights

    def to_itself(
        self, x: Tensor, bias: Tensor, rotate: Rotate | None, layout: Layout | None = None, *, causal: bool = False
    ) -> Tensor:
        """x [B, T, D] attends to x, ``causal`` to nothing later; with a layout both are [1, M, D]."""
        query, memory = self.project_all(x, rotate, layout)
        heads = self.mix.among(query, memory, bias, causal=causal)
        return self.output(join_heads(heads, layout))  # type: ignore[no-any-return]


def split_heads(maps: Tensor, count: int, heads: int, layout: Layout | None) -> Tensor:
    """Several maps [B, S, count · D], or [1, M, count · D] with a layout → [count, B, H, S, K]."""
    if layout:
        return layout.split(maps, count, heads)
    return maps.view(*maps.shape[:2], count, heads, -1).permute(2, 0, 3, 1, 4)


def join_heads(heads: Tensor, layout: Layout | None) -> Tensor:
    """[B, H, T, K] → [B, T, D], or [1, M, D] with a layout."""
    return layout.join(heads) if layout else heads.transpose(1, 2).flatten(2)

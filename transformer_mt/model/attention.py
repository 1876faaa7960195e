"""Attention: softmax(Q Kᵀ / √K) V, and many heads of it (Vaswani et al. 2017, section 3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from transformer_mt.model.linear import Linear, together
from transformer_mt.model.masks import Layout

Rotate = Callable[[Tensor], Tensor]  # rotary positions; the same shape


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention.

    query [..., T, K], key [..., S, K], value [..., S, K] and a bias that broadcasts to [..., T, S] (minus infinity
    where a query may not attend) → output [..., T, K] and weights [..., T, S]. ``scale`` is 1/√K unless given.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query * scale @ key.transpose(-2, -1)  # [..., T, S]
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(-1)
    return weights.to(value.dtype) @ value, weights


@dataclass
class KeyValue:
    """Keys and values, [B, H, S, K] each."""

    key: Tensor
    value: Tensor


class MultiHeadAttention(nn.Module):
    """H heads of width K = D / H, each with its own projections of queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (Linear(width, width) for _ in range(4))

    def _split(self, x: Tensor) -> Tensor:
        """[B, S, D] → [B, H, S, K], in memory as in shape: else products of one sentence would have another kernel."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2).contiguous()

    def _rows(self, x: Tensor, layout: Layout | None) -> Tensor:
        return self._split(layout.pad(x) if layout else x)

    def project(self, memory: Tensor, layout: Layout | None = None) -> KeyValue:
        """Keys and values of ``memory`` [B, S, D], or [1, M, D] with a layout."""
        key, value = together(memory, self.key, self.value)
        return KeyValue(self._rows(key, layout), self._rows(value, layout))

    def project_all(self, x: Tensor, rotate: Rotate | None, layout: Layout | None = None) -> tuple[Tensor, KeyValue]:
        """Queries [B, H, T, K], keys and values of x [B, T, D], by one product; ``rotate`` turns queries and keys."""
        query, key, value = (self._rows(y, layout) for y in together(x, self.query, self.key, self.value))
        return (rotate(query), KeyValue(rotate(key), value)) if rotate else (query, KeyValue(key, value))

    def forward(self, x: Tensor, memory: KeyValue, bias: Tensor | None) -> Tensor:
        """x [B, T, D] attends to ``memory`` (keys [B, H, S, K]); returns [B, T, D]."""
        return self.attend(self._split(self.query(x)), memory, bias)

    def to_itself(self, x: Tensor, bias: Tensor, rotate: Rotate | None, layout: Layout | None = None) -> Tensor:
        """x [B, T, D] attends to x; with a layout both are [1, M, D]."""
        return self.attend(*self.project_all(x, rotate, layout), bias, layout)

    def attend(self, query: Tensor, memory: KeyValue, bias: Tensor | None, layout: Layout | None = None) -> Tensor:
        """Queries [B, H, T, K] attend to ``memory``; returns [B, T, D], or [1, M, D] with a layout.

        ``bias`` broadcasts to [B, H, T, S].
        """
        heads, _ = attend(query, memory.key, memory.value, bias)
        heads = heads.transpose(1, 2).flatten(2)
        return self.output(layout.strip(heads) if layout else heads)  # type: ignore[no-any-return]

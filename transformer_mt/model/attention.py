"""Attention: softmax(Q Kᵀ / √K) V, and many heads of it (Vaswani et al. 2017, section 3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from transformer_mt.model.linear import Linear, together

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

    def project(self, memory: Tensor, rotate: Rotate | None = None) -> KeyValue:
        """Keys and values of ``memory`` [B, S, D]; ``rotate`` turns the keys [B, H, S, K]."""
        key, value = together(memory, self.key, self.value)
        return self._memory(key, value, rotate)

    def forward(self, x: Tensor, memory: KeyValue, bias: Tensor | None, rotate: Rotate | None = None) -> Tensor:
        """x [B, T, D] attends to ``memory`` (keys [B, H, S, K]); returns [B, T, D].

        ``bias`` broadcasts to [B, H, T, S]; ``rotate`` turns the queries [B, H, T, K].
        """
        return self._heads(self.query(x), memory, bias, rotate)

    def to_itself(self, x: Tensor, bias: Tensor, rotate: Rotate | None) -> Tensor:
        """x [B, T, D] attends to x: as :meth:`project` and :meth:`forward`, by one product."""
        query, key, value = together(x, self.query, self.key, self.value)
        return self._heads(query, self._memory(key, value, rotate), bias, rotate)

    def _memory(self, key: Tensor, value: Tensor, rotate: Rotate | None) -> KeyValue:
        keys = self._split(key)
        return KeyValue(rotate(keys) if rotate else keys, self._split(value))

    def _heads(self, query: Tensor, memory: KeyValue, bias: Tensor | None, rotate: Rotate | None) -> Tensor:
        queries = self._split(query)  # [B, H, T, K]
        heads, _ = attend(rotate(queries) if rotate else queries, memory.key, memory.value, bias)
        return self.output(heads.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

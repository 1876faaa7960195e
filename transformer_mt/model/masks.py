"""Who may attend to whom: boolean masks, True = may attend, and the bias that they become inside a softmax."""

import torch
from torch import Tensor


def padding_mask(ids: Tensor, pad: int) -> Tensor:
    """Ids [B, S] → mask [B, 1, 1, S]: every query may attend to every position that is not padding."""
    return (ids != pad)[:, None, None, :]


def causal_mask(length: int, device: torch.device) -> Tensor:
    """The mask [T, T] of a decoder: position t may attend to positions 0 to t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def attention_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add to scores: 0 where it is True, minus infinity elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


class Layout:
    """The M real positions of a batch [B, S]: what works on each position alone need not see the padding."""

    def __init__(self, mask: Tensor) -> None:
        self.shape, self.real = mask.shape, mask.flatten().nonzero()[:, 0]  # [M]
        self.source = (mask.flatten().cumsum(0) - 1).clamp_min_(0)  # [B·S]: the real position that each is filled from

    def strip(self, x: Tensor) -> Tensor:
        """X [B, S, D] → [1, M, D]."""
        return x.flatten(0, 1).index_select(0, self.real)[None]

    def split(self, maps: Tensor, count: int, heads: int) -> Tensor:
        """Several maps [1, M, count · H · K] → [count, B, H, S, K], at padding those of some other position."""
        within = torch.arange(count * heads, device=maps.device).view(count, 1, heads, 1)
        places = self.source.view(self.shape[0], 1, -1) * (count * heads) + within  # [count, B, H, S]
        rows = maps.reshape(len(self.real) * count * heads, -1)
        return rows.index_select(0, places.flatten()).view(*places.shape, -1)

    def join(self, heads: Tensor) -> Tensor:
        """Heads [B, H, S, K] → [1, M, H · K]."""
        _, count, length, width = heads.shape
        first = self.real + self.real // length * ((count - 1) * length)  # of b · H · S + s
        places = first[:, None] + torch.arange(0, count * length, length, device=heads.device)
        return heads.reshape(-1, width).index_select(0, places.flatten()).view(1, len(first), -1)

"""Who may attend to whom: boolean masks, True = may attend, and the bias that they become inside a softmax."""

import torch
from torch import Tensor


def padding_mask(ids: Tensor, pad: int) -> Tensor:
    """Ids [B, S] → mask [B, 1, 1, S]: every query may attend to every position that is not padding."""
    return (ids != pad)[:, None, None, :]


def causal_mask(length: int, device: torch.device) -> Tensor:
    """The mask [T, T] of a decoder: position t may attend to positions 0 to t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def attention_bias(mask: Tensor) -> Tensor:
    """A mask as float32 numbers to add to scores: 0 where it is True, minus infinity elsewhere.

    Scores become float32 with it, as softmax has them: a CPU takes five times as long in bfloat16.
    """
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))

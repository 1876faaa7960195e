"""How often the model is told the right token, and how often it goes on from its own (Bengio et al. 2015)."""

import math

import torch
from torch import Tensor

from transformer_mt.config import TeacherForcing


def teacher_ratio(step: int, settings: TeacherForcing) -> float:
    """The probability, at a step, that the decoder reads the token of the target; a pure function.

    It falls from ``ratio`` at first to half of that at step ``half``, and not below ``least``: linearly,
    exponentially, or as the inverse sigmoid k / (k + e^(step / k)), with k such that this holds.
    """
    progress = step / settings.half
    match settings.decay:
        case "none":
            share = 1.0
        case "linear":
            share = 1 - progress / 2
        case "exponential":
            share = 0.5**progress
        case "inverse_sigmoid":
            share = _inverse_sigmoid(step, settings.half)
    return max(settings.least, settings.ratio * share)


def _inverse_sigmoid(step: int, half: int) -> float:
    """k / (k + e^(step / k)), which is a half where e^(half / k) = k."""
    k = 2.0
    for _ in range(100):  # Newton's iteration for k ln k = half
        k -= (k * math.log(k) - half) / (math.log(k) + 1)
    return 1 / (1 + math.exp(min(700.0, step / k - math.log(k))))


def own_places(shape: torch.Size, ratio: float, device: torch.device) -> Tensor | None:
    """Where [B, T] the model is to read its own token; None for nowhere."""
    return None if ratio >= 1 else torch.rand(shape, device=device) >= ratio

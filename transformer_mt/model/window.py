"""Self-attention of a window: every position sees r neighbours on either side, at a cost of O(r · n · D)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_mt.model.attention import Full, KeyValue, softmax
from transformer_mt.model.scores import Dot

_FEWEST = 16  # positions of a block


class Window(Full):
    """Restricted self-attention (Vaswani et al. 2017, section 4): softmax over |i - j| ≤ r.

    Positions are computed in blocks of b: each block sees b + 2r keys.
    """

    def __init__(self, score: Dot, radius: int) -> None:
        super().__init__(score)
        self.reach = self.radius = radius

    def among(self, query: Tensor, memory: KeyValue, bias: Tensor, *, causal: bool) -> Tensor:
        """As :meth:`Full.among`; the bias is looked at for padding only."""
        length, size = query.shape[2], max(self.radius, _FEWEST)
        blocks = -(-length // size)
        query = _pad(query, 0, blocks * size - length)
        query = query.view(*query.shape[:2], blocks, size, -1)  # [B, H, n, b, K]
        key, value = (self._around(x, blocks, size) for x in (memory.key, memory.value))  # [B, H, n, b + 2r, K]
        scores = self.score(query, key)  # [B, H, n, b, b + 2r]
        allowed = self._allowed(blocks, size, length, query.device, causal=causal)
        if not causal:
            real = self._around((bias == 0).transpose(2, 3).to(value.dtype), blocks, size)  # [B, 1, n, b + 2r, 1]
            allowed = allowed & (real.transpose(3, 4) > 0)
        # Not minus infinity: what is around padding may see nothing, and that must be no NaN.
        weights = softmax(scores.masked_fill(~allowed, torch.finfo(scores.dtype).min))
        found: Tensor = weights.to(value.dtype) @ value
        return found.flatten(2, 3)[:, :, :length]

    def _around(self, x: Tensor, blocks: int, size: int) -> Tensor:
        """x [B, H, S, K] → [B, H, n, b + 2r, K]: each block and its neighbours, zeros where there are none."""
        x = _pad(x, self.radius, blocks * size - x.shape[2] + self.radius)
        return x.unfold(2, size + 2 * self.radius, size).transpose(3, 4)

    def _allowed(self, blocks: int, size: int, length: int, device: torch.device, *, causal: bool) -> Tensor:
        """Which keys of its block's each position sees, [n, b, b + 2r]."""
        i = torch.arange(blocks * size, device=device).view(blocks, size, 1)
        j = torch.arange(-self.radius, size + self.radius, device=device) + i[:, :1]  # [n, 1, b + 2r]
        last = i if causal else i + self.radius
        return (j >= 0) & (j < length) & (j >= i - self.radius) & (j <= last)


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """x [B, H, S, K] with zeros around its positions."""
    return F.pad(x, (0, 0, before, after))

"""Where a token stands: sinusoidal, learned and rotary positions."""

import math

import torch
from torch import Tensor, nn


def sinusoids(length: int, width: int) -> Tensor:
    """The table [length, D] of Vaswani et al. 2017, section 3.5.

    PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i+1) = cos of the same; 10000^(-2i/D) as exp(-2i/D · ln 10000).
    """
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # [D/2]
    angle = torch.arange(length)[:, None] * frequency  # [length, D/2]
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class Sinusoidal(nn.Module):
    """Adds the sinusoid of its position to every token; the table grows with the longest sentence seen."""

    table: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(256, width), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x [B, T, D], whose first row stands at position ``start``."""
        end = start + x.shape[1]
        if end > len(self.table):
            with torch.inference_mode(False):
                self.table = sinusoids(2 * end, x.shape[2]).to(self.table)
        return x + self.table[start:end]


class Learned(nn.Module):
    """Adds a learned vector a position, up to ``limit`` positions."""

    def __init__(self, limit: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(limit, width) * width**-0.5)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x [B, T, D], whose first row stands at position ``start``; rows beyond the limit can only be padding."""
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        return x + self.table[positions.clamp(max=len(self.table) - 1)]


class Rotary(nn.Module):
    """Turns queries and keys by an angle that grows with the position (Su et al. 2021), the two halves as pairs.

    The product of a query and a key then depends on their distance, not on where they stand.
    """

    table: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.register_buffer("table", self._angles(256), persistent=False)

    def _angles(self, length: int) -> Tensor:
        frequency = torch.exp(torch.arange(0, self.head_width, 2) * (-math.log(10000.0) / self.head_width))
        angle = torch.arange(length)[:, None] * frequency  # [length, K/2]
        return torch.stack((angle.cos(), angle.sin()))  # [2, length, K/2]

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x [B, H, T, K], whose first row stands at position ``start``; the same shape."""
        return self._turn(x, start, start + x.shape[-2])

    def at(self, x: Tensor, position: int) -> Tensor:
        """x [B, H, N, K], all of whose rows stand at ``position``; the same shape."""
        return self._turn(x, position, position + 1)

    def _turn(self, x: Tensor, start: int, end: int) -> Tensor:
        if end > self.table.shape[1]:
            with torch.inference_mode(False):  # training saves it for the gradient, also when decoding has made it
                self.table = self._angles(2 * end).to(self.table)
        cos, sin = self.table[:, start:end].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

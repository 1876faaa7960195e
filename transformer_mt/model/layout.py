"""Where the real positions of a padded batch are: what works on each position alone need not see the padding."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 16  # numbers of rows that are multiples of it come again, and leave no rest: oneDNN compiles a kernel for each


class Layout:
    """M rows: the real positions of a batch [B, S], and after them some more, at least one.

    Rows that are no position are zeros at first, and what stands in the padding is a copy of one of them: it is finite,
    nothing may come of it, and its gradient is taken to be zero.
    """

    def __init__(self, mask: Tensor) -> None:
        """The mask [B, S] is True where a position is real; M is a multiple of ``ROWS``."""
        self.shape, flat = mask.shape, mask.flatten()
        real = flat.nonzero()[:, 0]
        self.real, self.rows = len(real), -(-(len(real) + 1) // ROWS) * ROWS  # rows: M
        out = F.pad(real, (0, self.rows - self.real))  # [M]: of B·S positions
        into = torch.where(flat, flat.cumsum(0) - 1, self.real)  # [B·S]: of M rows
        self._places = {(1, 1): (out, into)}

    def strip(self, x: Tensor) -> Tensor:
        """X [B, S, D] → [1, M, D]."""
        return self.join(x[:, None])

    def place(self, x: Tensor) -> Tensor:
        """X [1, M, D] → [B, S, D]."""
        return self.split(x, 1, 1)[0, :, 0]

    def split(self, maps: Tensor, count: int, heads: int) -> Tensor:
        """Several maps [1, M, count · H · K] → [count, B, H, S, K]."""
        out, into = self._of_heads(count, heads)
        rows = maps.reshape(self.rows * count * heads, -1)
        moved = _move(rows, into, out, None, self.real * count * heads)
        return moved.view(count, self.shape[0], heads, self.shape[1], -1)

    def join(self, heads: Tensor) -> Tensor:
        """Heads [B, H, S, K] → [1, M, H · K]."""
        count = heads.shape[1]
        out, into = self._of_heads(1, count)
        rows = heads.reshape(-1, heads.shape[3])
        return _move(rows, out, into, self.real * count, None).view(1, self.rows, -1)

    def _of_heads(self, count: int, heads: int) -> tuple[Tensor, Tensor]:
        """Where each of [M, count, H] rows comes from among [count, B, H, S], and each of those among the rows."""
        if (count, heads) not in self._places:
            out, into = self._places[1, 1]
            batch, length = self.shape
            head = torch.arange(count * heads, device=out.device).view(count, heads)
            first = (head // heads * batch * heads + head % heads) * length  # of a head, in the first sentence
            start = out // length * (heads * length) + out % length  # of a position, in the first head
            self._places[count, heads] = (
                (start[:, None] + first.flatten()).flatten(),
                (into.view(batch, 1, length) * (count * heads) + head[:, None, :, None]).flatten(),
            )
        return self._places[count, heads]


def _move(x: Tensor, places: Tensor, back: Tensor, end: int | None, end_back: int | None) -> Tensor:
    """Rows of x from those places, zeros from row ``end`` on; their gradient goes ``back`` likewise."""
    if torch.is_grad_enabled():
        return _Move.apply(x, places, back, end, end_back)  # type: ignore[no-any-return, no-untyped-call]
    return _moved(x, places, end)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, back: Tensor, end: int | None, end_back: int | None) -> Tensor:
        ctx.save_for_backward(back)
        ctx.end = end_back
        return _moved(x, places, end)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _moved(gradients[0], ctx.saved_tensors[0], ctx.end), None, None, None, None


def _moved(x: Tensor, places: Tensor, end: int | None) -> Tensor:
    moved = x.index_select(0, places)
    if end is not None:
        moved[end:] = 0
    return moved

"""The affine map, with arithmetic that does not depend on what else is in the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_ROWS = 16


class Linear(nn.Linear):
    """x [..., in] → x Wᵀ + b [..., out].

    The rows of a float32 product on a CPU are bit-equal whatever their number, from 16 rows up; below, other kernels
    round differently. So outside training fewer rows are padded up: a sentence's translation is the same alone and in
    any batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map the last dimension."""
        return invariant_product(input, self.weight, self.bias, exact=not self.training)


def invariant_product(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, exact: bool) -> Tensor:
    """input [..., in] times weight [out, in] transposed; with ``exact`` on a CPU, in at least 16 rows."""
    rows = input.shape[:-1].numel()
    if not exact or rows >= MIN_ROWS or input.device.type != "cpu":
        return F.linear(input, weight, bias)
    padded = F.pad(input.reshape(rows, -1), (0, 0, 0, MIN_ROWS - rows))
    return F.linear(padded, weight, bias)[:rows].view(*input.shape[:-1], -1)


def invariant_matmul(left: Tensor, right: Tensor) -> Tensor:
    """left [B, H, T, K] times right [B, H, K, S], each pair of matrices with the kernel of batched products.

    PyTorch takes that of plain products for a single pair, whose rounding depends on T; so one pair is made two.
    """
    if left.dim() < 3 or left.shape[:-2].numel() > 1 or torch.is_grad_enabled() or left.device.type != "cpu":
        return left @ right
    return (left.expand(2, *left.shape[1:]) @ right.expand(2, *right.shape[1:]))[:1]

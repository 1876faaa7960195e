"""The affine map: fast products, and for decoding such that do not depend on what else is in the batch."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt.model.onednn import HAS_ONEDNN, KERNELS, onednn_product, products_by_onednn

_WORTH = 1 << 16  # weights of a float32 product from which oneDNN is faster: it compiles a kernel for each new shape
_MANY = 1 << 22  # likewise multiplications of a product in training alone, for there its kernel may depend on the rows
_LOOP = 400  # multiplications, fewer than which PyTorch does for each pair of a batch by a loop
_ONE_KERNEL = 16  # rows from which PyTorch's own float32 product takes one and the same kernel; oneDNN's does from 2


class Linear(nn.Linear):
    """x [..., in] → x Wᵀ + b [..., out] in the precision of x, with ``relu`` max(0, x Wᵀ + b); b may be left out."""

    def __init__(self, inside: int, outside: int, *, bias: bool = True, relu: bool = False) -> None:
        super().__init__(inside, outside, bias)
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:
        """Map the last dimension."""
        if torch.is_grad_enabled():
            return _Affine.apply(input, self.weight, self.bias, self.relu)  # type: ignore[no-any-return, no-untyped-call]
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return product(input, self.weight.to(input.dtype), bias, relu=self.relu)


class _Affine(torch.autograd.Function):
    """The map with its gradient: all three products by the fastest kernel, weights rounded to x's precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        rounded = weight.to(x.dtype)
        output = product(x, rounded, None if bias is None else bias.to(x.dtype), relu=relu)
        ctx.save_for_backward(x, rounded, output if relu else None)
        ctx.precision, ctx.has_bias = weight.dtype, bias is not None
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight, positive = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, len(weight))
        if positive is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, positive.view_as(gradient), 0)
        # Before the products: what was made just now is in the cache.
        of_bias = gradient.sum(0).to(ctx.precision) if ctx.has_bias else None
        return (
            product(gradient, weight.T).view_as(x),
            outer_product(gradient, x.reshape(len(gradient), -1)).to(ctx.precision),
            of_bias,
            None,
        )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """x [..., in] times weight [out, in] transposed; by oneDNN where that beats PyTorch's choice."""
    # In bfloat16 PyTorch's choice is oneDNN, too, but it copies a bias first, and has no ReLU inside.
    better = weight.numel() >= _WORTH if x.dtype == torch.float32 else bias is not None
    if better and x.dtype in KERNELS and x.is_cpu:
        return onednn_product(x, weight, bias, relu=relu)
    output = F.linear(x, weight, bias)
    return output.relu_() if relu else output


def outer_product(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ right [out, in] of left [rows, out] and right [rows, in]."""
    with _by_the_fastest(left.T, right):
        return left.T @ right


def _by_the_fastest(left: Tensor, right: Tensor) -> AbstractContextManager[None]:
    """Within it, a large float32 product is oneDNN's, which is faster though it has to compile its kernel."""
    large = left.is_cpu and left.dtype == torch.float32 and left.numel() * right.size(-1) >= _MANY
    return products_by_onednn() if large else nullcontext()


def fewest_rows(weight: Tensor) -> int:
    """The rows below which a float32 product with ``weight`` takes another kernel on a CPU than many do; else 0."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return 0
    return 2 if HAS_ONEDNN else _ONE_KERNEL


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """left [..., T, K] times right [..., K, S], each pair of matrices with the kernel of batched products.

    PyTorch takes that of plain products for a single pair, whose rounding depends on T; so one pair is made two. For
    fewer than 400 multiplications a pair it takes a plain loop, slower than to multiply and to sum.
    """
    if not left.is_cpu:
        return left @ right
    if torch.is_grad_enabled():
        return _Matmul.apply(left, right)  # type: ignore[no-any-return, no-untyped-call]
    rows, inside, columns = left.size(-2), left.size(-1), right.size(-1)
    if rows * inside * columns < _LOOP and left.dtype == torch.float32:
        return (left[..., None] * right[..., None, :, :]).sum(-2)
    if left.numel() > rows * inside:
        return left @ right
    pair = (x.reshape(1, *x.shape[-2:]).expand(2, -1, -1) for x in (left, right))
    return torch.bmm(*pair)[0].view(*left.shape[:-1], columns)


class _Matmul(torch.autograd.Function):
    """Products and their gradients; that of keys, a right factor transposed, is transposed too: else it is copied."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        with _by_the_fastest(left, right):
            return left @ right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        gradient = gradients[0]
        with _by_the_fastest(left, right):
            of_left = gradient @ right.mT
            of_right = (gradient.mT @ left).mT if right.mT.is_contiguous() else left.mT @ gradient
        return of_left, of_right  # PyTorch sums them over what was repeated


def sigmoid(x: Tensor) -> Tensor:
    """σ(x) = (1 + tanh(x / 2)) / 2, equal for an element whatever the others are.

    PyTorch's own rounds the last elements of a tensor, which fill no vector of the CPU, differently.
    """
    return torch.sigmoid(x) if torch.is_grad_enabled() else torch.tanh(x / 2).add_(1).div_(2)


def silu(x: Tensor) -> Tensor:
    """x σ(x), likewise."""
    return F.silu(x) if torch.is_grad_enabled() else x * sigmoid(x)

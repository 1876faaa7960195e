"""A model made ready for decoding: weights laid out in advance for the kernel of products, or as 8-bit integers."""

import math
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from transformer_mt.model.attention import KeyValue, MultiHeadAttention, Rotate
from transformer_mt.model.layers import LayerNorm, RMSNorm
from transformer_mt.model.linear import Linear, has_kernel, in_rows, invariant_bmm, product
from transformer_mt.model.transformer import Transformer

_ROWS = 64  # of the products that the layout is for

_Affine = Callable[[Tensor], Tensor]


def packed(model: Transformer, precision: torch.dtype) -> Transformer:
    """A copy that computes in ``precision`` and shares all that need not change; its weights cannot be trained.

    With int8 all is float32 but the products.
    """
    copy = deepcopy(model, {id(parameter): parameter for parameter in model.parameters()}).eval()
    copy.precision = torch.float32 if precision == torch.int8 else precision
    for module in list(copy.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MultiHeadAttention):
                _replace(module, name, PackedAttention(child, precision))
            elif isinstance(child, Linear):
                _replace(module, name, _pack(child.weight, child.bias, precision, relu=child.relu))
        if isinstance(module, LayerNorm | RMSNorm):
            for name, parameter in module.named_parameters():
                setattr(module, name, nn.Parameter(parameter.detach().to(copy.precision), requires_grad=False))
    copy.output = _pack(model.projection, None, precision)
    return copy


def _replace(module: nn.Module, name: str, function: Callable[..., Tensor]) -> None:
    """By what is no module: to call one costs more than many a product of a single sentence."""
    delattr(module, name)
    setattr(module, name, function)


def _pack(weight: Tensor, bias: Tensor | None, precision: torch.dtype, *, relu: bool = False) -> _Affine:
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if precision == torch.int8:
        return Int8Linear(weight, bias, relu)
    return PackedLinear(weight.to(precision), None if bias is None else bias.to(precision), relu)


class PackedAttention:
    """Multi-head attention with one product for keys and values, and 1/√K inside that of queries."""

    def __init__(self, attention: MultiHeadAttention, precision: torch.dtype) -> None:
        self.heads = attention.heads
        query, key, value, output = attention.query, attention.key, attention.value, attention.output
        scale = 1 / math.sqrt(len(query.weight) // self.heads)
        self.query = _pack(query.weight * scale, query.bias * scale, precision)
        self.key_value = _pack(torch.cat((key.weight, value.weight)), torch.cat((key.bias, value.bias)), precision)
        self.output = _pack(output.weight, output.bias, precision)

    def to_itself(self, x: Tensor, bias: Tensor, rotate: Rotate | None) -> Tensor:
        """As :meth:`MultiHeadAttention.to_itself`."""
        return self(x, self.project(x, rotate), bias, rotate)

    def project(self, memory: Tensor, rotate: Rotate | None = None) -> KeyValue:
        """As :meth:`MultiHeadAttention.project`."""
        both = self.key_value(memory).view(*memory.shape[:2], 2, self.heads, -1)
        key, value = both.permute(2, 0, 3, 1, 4).contiguous().unbind()  # [B, H, S, K] each
        return KeyValue(rotate(key) if rotate else key, value)

    def __call__(self, x: Tensor, memory: KeyValue, bias: Tensor | None, rotate: Rotate | None = None) -> Tensor:
        """As :meth:`MultiHeadAttention.forward`."""
        rows, length, width = x.shape
        query = self.query(x).view(rows, length, self.heads, -1).transpose(1, 2)  # [B, H, T, K]
        if rotate:
            query = rotate(query)
        scores = invariant_bmm(query.flatten(0, 1), memory.key.flatten(0, 1).transpose(1, 2))  # [B·H, T, S]
        if bias is not None:
            scores.view(rows, self.heads, length, -1).add_(bias)
        heads = invariant_bmm(scores.softmax(-1), memory.value.flatten(0, 1))  # [B·H, T, K]
        heads = heads.view(rows, self.heads, length, -1).transpose(1, 2).reshape(rows, length, width)
        return self.output(heads)


class PackedLinear:
    """x [..., in] → x Wᵀ + b [..., out], equal for a row whatever the others are (in float32 on a CPU)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool) -> None:
        self.weight, self.bias, self.relu = weight, bias, relu
        if weight.device.type == "cpu" and has_kernel(weight.dtype):
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        return in_rows(x, self._map)

    def _map(self, rows: Tensor) -> Tensor:
        return product(rows, self.weight, self.bias, relu=self.relu)


class Int8Linear:
    """The map in 8-bit integers, a scale for each row of x and of W: round(x / s) · round(W / r)ᵀ · s · r + b."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool) -> None:
        self.scale = weight.abs().amax(1).clamp_min(1e-8) / 127  # [out]
        self.weight = (weight / self.scale[:, None]).round().to(torch.int8).T  # [in, out]
        self.bias, self.relu = bias, relu

    def __call__(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-8).div_(127)
        output = torch._int_mm(rows.div(scale).round_().to(torch.int8), self.weight).float().mul_(scale)
        output = output.mul_(self.scale) if self.bias is None else torch.addcmul(self.bias, output, self.scale)
        return (output.relu_() if self.relu else output).view(*x.shape[:-1], -1)

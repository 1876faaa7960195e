"""A model made ready for decoding: weights laid out in advance for the kernel of products, or as 8-bit integers."""

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt.model.attention import (
    Full,
    KeyValue,
    MultiHeadAttention,
    Rotate,
    join_heads,
    softmax,
    split_heads,
)
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.int8 import Int8Linear
from transformer_mt.model.layers import LayerNorm, Residual, RMSNorm
from transformer_mt.model.layout import Layout
from transformer_mt.model.likeliest import Screen
from transformer_mt.model.linear import Linear, fewest_rows, matmul, product
from transformer_mt.model.lone_row import LoneRow, lone_row
from transformer_mt.model.onednn import has_kernel, onednn_product
from transformer_mt.model.scores import Dot

_ROWS = 64  # of the products that the layout is for

_Affine = Callable[[Tensor], Tensor]
Model = TypeVar("Model", bound=EncoderDecoder)


def packed(model: Model, precision: torch.dtype) -> Model:
    """A copy that computes in ``precision`` and shares all that need not change; its weights cannot be trained.

    With int8 all is float32 but the products.
    """
    copy = deepcopy(model, {id(parameter): parameter for parameter in model.parameters()}).eval()
    copy.precision = _activations(precision)
    _pack_inside(copy, precision)
    for module in copy.modules():
        vars(module).update(module._modules)  # found at once, where a module looks elsewhere first
    copy.output = _pack(model.projection, None, precision)
    if precision == torch.float32 and model.projection.is_cpu and torch.cpu._is_vnni_supported():
        copy.screen = Screen(model.projection.detach(), copy.output)  # other CPUs are slow with integers
    return copy


def _activations(precision: torch.dtype) -> torch.dtype:
    return torch.float32 if precision == torch.int8 else precision


def _pack_inside(module: nn.Module, precision: torch.dtype) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, MultiHeadAttention):
            _replace(module, name, PackedAttention(child, precision))
        elif isinstance(child, Linear):
            _replace(module, name, _pack(child.weight, child.bias, precision, relu=child.relu))
        elif isinstance(child, LayerNorm | RMSNorm):
            _replace(module, name, child.ready(_activations(precision)))
        else:
            _pack_inside(child, precision)
            if isinstance(child, Residual) and child.pre:
                child.enter, child.leave = child.norm, Tensor.add_  # type: ignore[assignment,method-assign]


def _replace(module: nn.Module, name: str, function: Callable[..., Any]) -> None:
    """By what is no module: to call one costs more than many a product of a single sentence."""
    delattr(module, name)
    setattr(module, name, function)


def _pack(weight: Tensor, bias: Tensor | None, precision: torch.dtype, *, relu: bool = False) -> _Affine:
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if precision == torch.int8:
        return Int8Linear(weight, bias, relu)
    return PackedLinear(weight.to(precision), None if bias is None else bias.to(precision), relu)


class PackedAttention:
    """Multi-head attention by one product for all that is wanted of a tensor.

    The factor of a score that is a product, such as 1/√K, is inside that of queries.
    """

    def __init__(self, attention: MultiHeadAttention, precision: torch.dtype) -> None:
        self.heads, self.precision, self.maps, self.mix = attention.heads, precision, attention, attention.mix
        product = type(self.mix) is Full and type(self.mix.score).forward is Dot.forward
        self.factor = self.mix.score.factor if product else None
        _pack_inside(self.mix, precision)
        self.output = _pack(attention.output.weight, attention.output.bias, precision)

    @cached_property
    def query(self) -> _Affine:
        """What cross-attention asks."""
        return self._pack(self.maps.query)

    @cached_property
    def key_value(self) -> _Affine:
        """What cross-attention reads."""
        return self._pack(self.maps.key, self.maps.value)

    @cached_property
    def all(self) -> _Affine:
        """Both, of self-attention."""
        return self._pack(self.maps.query, self.maps.key, self.maps.value)

    def _pack(self, *maps: Linear) -> _Affine:
        scales = [self.factor or 1.0 if map_ is self.maps.query else 1.0 for map_ in maps]
        weight = torch.cat([map_.weight * scale for map_, scale in zip(maps, scales, strict=True)])
        bias = torch.cat([map_.bias * scale for map_, scale in zip(maps, scales, strict=True)])
        return _pack(weight, bias, self.precision)

    def project(self, memory: Tensor, layout: Layout | None = None) -> KeyValue:
        """As :meth:`MultiHeadAttention.project`."""
        key, value = split_heads(self.key_value(memory), 2, self.heads, layout).contiguous()
        return KeyValue(self.mix.prepare(key), value)

    def project_all(self, x: Tensor, rotate: Rotate | None, layout: Layout | None = None) -> tuple[Tensor, KeyValue]:
        """As :meth:`MultiHeadAttention.project_all`."""
        query, key, value = split_heads(self.all(x), 3, self.heads, layout)
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        return query, KeyValue(self.mix.prepare(key), value)

    def __call__(
        self, x: Tensor, memory: KeyValue, bias: Tensor | None, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`MultiHeadAttention.forward`."""
        return self.attend(split_heads(self.query(x), 1, self.heads, layout)[0], memory, bias, layout)

    def attend(
        self, query: Tensor, memory: KeyValue, bias: Tensor | None, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`MultiHeadAttention.attend`."""
        heads, weights = self._mix(query, memory, bias)
        return self.output(join_heads(heads, layout)), weights

    def to_itself(
        self, x: Tensor, bias: Tensor, rotate: Rotate | None, layout: Layout | None = None, *, causal: bool = False
    ) -> Tensor:
        """As :meth:`MultiHeadAttention.to_itself`."""
        query, memory = self.project_all(x, rotate, layout)
        if self.factor is None:
            heads = self.mix.among(query, memory, bias, causal=causal)
        else:
            heads, _ = self._mix(query, memory, bias)
        return self.output(join_heads(heads, layout))

    def _mix(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries [B, H, T, K] → [B, H, T, K] and weights [B, H, T, S]."""
        if self.factor is None:
            return self.mix(query, memory, bias)  # type: ignore[no-any-return]
        scores = matmul(query, memory.key.transpose(2, 3))  # [B, H, T, S]
        if bias is not None:
            scores = scores.add_(bias) if scores.dtype == bias.dtype else scores + bias
        weights = softmax(scores)
        rounded = weights if weights.dtype == memory.value.dtype else weights.to(memory.value.dtype)
        return matmul(rounded, memory.value), weights


class PackedLinear:
    """x [..., in] → x Wᵀ + b [..., out], equal for a row whatever the others are (in float32 on a CPU)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool) -> None:
        self.bias, self.relu = bias, relu
        self.fewest = fewest_rows(weight) * weight.shape[1]  # an x of fewer numbers is done otherwise, or filled up
        self.laid_out = weight.device.type == "cpu" and has_kernel(weight.dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS) if self.laid_out else weight

    def __call__(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        if x.numel() < self.fewest:
            return self._few(x)
        if self.laid_out:
            return onednn_product(x, self.weight, self.bias, relu=self.relu)
        return product(x, self.weight, self.bias, relu=self.relu)

    def _few(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.weight.shape[0])
        if self._alone is None or x.numel() != x.shape[-1]:
            rows = F.pad(x.flatten(), (0, self.fewest - x.numel())).view(-1, x.shape[-1])
            return self(rows)[: x.shape[:-1].numel()].view(shape)
        output = self._alone(x)
        if self.bias is not None:
            output.add_(self.bias)
        return (output.relu_() if self.relu else output).view(shape)

    @cached_property
    def _alone(self) -> LoneRow | None:
        """The product of a single row, made when there is one."""
        return lone_row(self.weight) if self.laid_out else None

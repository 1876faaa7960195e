"""What a Transformer layer is made of: dropout, norms, the feed-forward net, residuals; and the two layers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt.config import Transformer
from transformer_mt.model.attention import Full, KeyValue, MultiHeadAttention, Rotate
from transformer_mt.model.fast_weights import FastWeights
from transformer_mt.model.layout import Layout
from transformer_mt.model.linear import Linear, silu
from transformer_mt.model.scores import Dot, make_score
from transformer_mt.model.state import Cache
from transformer_mt.model.window import Window


class Dropout(nn.Module):
    """Zeroes elements with probability p, to a 256th, and scales the others so that the mean stays.

    On a CPU one random byte decides an element: PyTorch's own random numbers are a sixth of a training step there.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.threshold = round(256 * probability)
        self.scale = 256 / (256 - self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """X of any shape; the identity outside training."""
        return x * self._kept(x).to(x.dtype) * self.scale if self.training and self.threshold else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """X plus what dropout leaves of y."""
        if not (self.training and self.threshold):
            return x + y
        return _Sum.apply(x, y, self._kept(y), self.scale)  # type: ignore[no-any-return, no-untyped-call]

    def _kept(self, x: Tensor) -> Tensor:
        """Bytes: 1 for each element that stays, 0 for the others."""
        if x.device.type != "cpu":
            return torch.empty_like(x, dtype=torch.uint8).bernoulli_(1 - self.threshold / 256)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(1 << 63), None)
        # In place, a comparison makes bytes: booleans, and numbers of them, would take PyTorch ten times as long.
        return words.view(torch.uint8)[: x.numel()].view(x.shape).ge_(self.threshold)


class _Sum(torch.autograd.Function):
    """X + y · kept · scale; for the gradient it keeps the bytes, which are smaller than numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return torch.addcmul(x, y, kept.to(y.dtype), value=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gradient, kept = gradients[0], ctx.saved_tensors[0]
        # In one pass, which rounds once.
        of_y = torch.addcmul(gradient.new_zeros(()), gradient, kept.to(gradient.dtype), value=ctx.scale)
        return gradient, of_y, None, None


class LayerNorm(nn.LayerNorm):
    """(x - mean x) / √(var x + ε) · g + b, computed in float32, in the precision of x (Ba et al. 2016)."""

    def forward(self, input: Tensor) -> Tensor:
        """X [..., D], normalised over D."""
        return self.ready(input.dtype)(input)

    def ready(self, precision: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The function of this module for that precision, with its weights as they are now.

        A module costs more to call than a few rows to normalise.
        """
        if self.weight.is_cpu:
            precision = self.weight.dtype  # a CPU's kernel takes float32 weights whatever x is, and is faster so
        weight, bias = self.weight.to(precision), self.bias.to(precision)
        return partial(torch.layer_norm, normalized_shape=weight.shape, weight=weight, bias=bias, eps=self.eps)


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · g (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """X [..., D], normalised over D."""
        return self.ready(x.dtype)(x)

    def ready(self, precision: torch.dtype) -> Callable[[Tensor], Tensor]:
        """As :meth:`LayerNorm.ready`."""
        weight = self.weight.to(precision)
        return partial(torch.rms_norm, normalized_shape=weight.shape, weight=weight, eps=1e-6)


def make_norm(settings: Transformer) -> nn.Module:
    """The norm that the configuration names."""
    return LayerNorm(settings.width, eps=1e-5) if settings.norm == "layer" else RMSNorm(settings.width)


class FeedForward(nn.Module):
    """max(0, x W₁ + b₁) W₂ + b₂; with GELU in place of max, or SwiGLU: (SiLU(x W₁) · x W₃) W₂ (Shazeer 2020)."""

    def __init__(self, settings: Transformer) -> None:
        super().__init__()
        self.activation = settings.activation
        self.inner = Linear(settings.width, settings.feed_forward, relu=self.activation == "relu")
        self.gate = Linear(settings.width, settings.feed_forward) if self.activation == "swiglu" else None
        self.outer = Linear(settings.feed_forward, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, T, D] → [B, T, D]."""
        hidden = self.inner(x)  # [B, T, F]
        if self.gate is not None:
            hidden = silu(hidden) * self.gate(x)
        elif self.activation == "gelu":
            hidden = F.gelu(hidden)
        return self.outer(hidden)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """The frame around a sublayer f: x + f(norm(x)) before (pre-norm), or norm(x + f(x)) after it (post-norm).

    It is used in two halves, so that the sublayer may take what arguments it needs::

        x = residual.leave(x, f(residual.enter(x)))
    """

    def __init__(self, settings: Transformer) -> None:
        super().__init__()
        self.pre = settings.norm_position == "pre"
        self.norm = make_norm(settings)
        self.dropout = Dropout(settings.dropout)

    def enter(self, x: Tensor) -> Tensor:
        """What the sublayer reads."""
        return self.norm(x) if self.pre else x

    def leave(self, x: Tensor, y: Tensor) -> Tensor:
        """The layer's input and the sublayer's output, put together."""
        x = self.dropout.add(x, y)
        return x if self.pre else self.norm(x)


def make_self_attention(settings: Transformer) -> MultiHeadAttention:
    """Attention to one's own positions, as the configuration says."""
    mix: Full
    match settings.self_attention:
        case "full":
            mix = Full(_make_score(settings))
        case "window":
            mix = Window(_make_score(settings), settings.window)
        case "linear":
            mix = FastWeights()
    return MultiHeadAttention(settings.width, settings.heads, mix)


def _make_score(settings: Transformer) -> Dot:
    return make_score(settings.score, settings.width // settings.heads)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, settings: Transformer) -> None:
        super().__init__()
        self.attention = make_self_attention(settings)
        self.attention_residual = Residual(settings)
        self.feed_forward = FeedForward(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(self, x: Tensor, bias: Tensor, rotate: Rotate | None, layout: Layout) -> Tensor:
        """X [1, M, D] → [1, M, D]; the bias [B, 1, 1, S] hides padding."""
        y = self.attention.to_itself(self.attention_residual.enter(x), bias, rotate, layout)
        x = self.attention_residual.leave(x, y)
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class DecoderLayer(nn.Module):
    """Self-attention over what is written, cross-attention over the source, and feed-forward."""

    def __init__(self, settings: Transformer) -> None:
        super().__init__()
        self.self_attention = make_self_attention(settings)
        self.self_residual = Residual(settings)
        self.cross_attention = MultiHeadAttention(settings.width, settings.heads, Full(_make_score(settings)))
        self.cross_residual = Residual(settings)
        self.feed_forward = FeedForward(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(
        self, x: Tensor, causal: Tensor, memory: KeyValue, memory_bias: Tensor, rotate: Rotate | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """All positions at once: x [1, M, D] → [1, M, D], and what they attended to in the source, [B, H, T, S].

        The bias ``causal`` [T, T] hides what comes later.
        """
        y = self.self_attention.to_itself(self.self_residual.enter(x), causal, rotate, layout, causal=True)
        x = self.self_residual.leave(x, y)
        y, weights = self.cross_attention(self.cross_residual.enter(x), memory, memory_bias, layout)
        return self._feed(self.cross_residual.leave(x, y)), weights

    def step(
        self,
        x: Tensor,
        written: Cache,
        written_bias: Tensor | None,
        memory: KeyValue,
        memory_bias: Tensor,
        rotate: Rotate | None,
    ) -> Tensor:
        """One position of N rows a sentence: x [B, N, D] → [B, N, D]; ``written`` gets its keys and values."""
        query, new = self.self_attention.project_all(self.self_residual.enter(x), rotate)
        written.append(new)
        reach = self.self_attention.mix.reach
        seen = written.read() if reach is None else written.read((reach + 1) * x.shape[1])
        if written_bias is not None:
            written_bias = written_bias[..., -seen.key.shape[2] :]
        x = self.self_residual.leave(x, self.self_attention.attend(query, seen, written_bias)[0])
        y, _ = self.cross_attention(self.cross_residual.enter(x), memory, memory_bias)
        return self._feed(self.cross_residual.leave(x, y))

    def _feed(self, x: Tensor) -> Tensor:
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))

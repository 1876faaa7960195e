"""What a Transformer layer is made of: dropout, norms, the feed-forward net, residuals; and the two layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt.config import Model
from transformer_mt.model.attention import KeyValue, MultiHeadAttention, Rotate
from transformer_mt.model.linear import Linear
from transformer_mt.model.masks import Layout
from transformer_mt.model.state import Cache


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
        return x * (self._kept(x) * self.scale) if self.training and self.threshold else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """X plus what dropout leaves of y."""
        return torch.addcmul(x, y, self._kept(y), value=self.scale) if self.training and self.threshold else x + y

    def _kept(self, x: Tensor) -> Tensor:
        """1 for each element that stays, 0 for the others."""
        if x.device.type != "cpu":
            return torch.empty_like(x).bernoulli_(1 - self.threshold / 256)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(1 << 63), None)
        return (words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """(x - mean x) / √(var x + ε) · g + b, computed in float32, in the precision of x (Ba et al. 2016)."""

    def forward(self, input: Tensor) -> Tensor:
        """X [..., D], normalised over D."""
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · g (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """X [..., D], normalised over D."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


def make_norm(settings: Model) -> nn.Module:
    """The norm that the configuration names."""
    return LayerNorm(settings.width, eps=1e-5) if settings.norm == "layer" else RMSNorm(settings.width)


class FeedForward(nn.Module):
    """max(0, x W₁ + b₁) W₂ + b₂; with GELU in place of max, or SwiGLU: (SiLU(x W₁) · x W₃) W₂ (Shazeer 2020)."""

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.activation = settings.activation
        self.inner = Linear(settings.width, settings.feed_forward, relu=self.activation == "relu")
        self.gate = Linear(settings.width, settings.feed_forward) if self.activation == "swiglu" else None
        self.outer = Linear(settings.feed_forward, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, T, D] → [B, T, D]."""
        hidden = self.inner(x)  # [B, T, F]
        if self.gate is not None:
            hidden = F.silu(hidden) * self.gate(x)
        elif self.activation == "gelu":
            hidden = F.gelu(hidden)
        return self.outer(hidden)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """The frame around a sublayer f: x + f(norm(x)) before (pre-norm), or norm(x + f(x)) after it (post-norm).

    It is used in two halves, so that the sublayer may take what arguments it needs::

        x = residual.leave(x, f(residual.enter(x)))
    """

    def __init__(self, settings: Model) -> None:
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


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(settings.width, settings.heads)
        self.attention_residual = Residual(settings)
        self.feed_forward = FeedForward(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(self, x: Tensor, bias: Tensor, rotate: Rotate | None, layout: Layout | None = None) -> Tensor:
        """X [B, S, D] → [B, S, D], or [1, M, D] → [1, M, D] with a layout; the bias [B, 1, 1, S] hides padding."""
        y = self.attention.to_itself(self.attention_residual.enter(x), bias, rotate, layout)
        x = self.attention_residual.leave(x, y)
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class DecoderLayer(nn.Module):
    """Self-attention over what is written, cross-attention over the source, and feed-forward."""

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(settings.width, settings.heads)
        self.self_residual = Residual(settings)
        self.cross_attention = MultiHeadAttention(settings.width, settings.heads)
        self.cross_residual = Residual(settings)
        self.feed_forward = FeedForward(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(
        self, x: Tensor, causal: Tensor, memory: KeyValue, memory_bias: Tensor, rotate: Rotate | None
    ) -> Tensor:
        """All positions at once: x [B, T, D] → [B, T, D]; causal [T, T] hides what comes later."""
        y = self.self_residual.enter(x)
        y = self.self_attention.to_itself(y, causal, rotate)
        x = self.self_residual.leave(x, y)
        y = self.cross_attention(self.cross_residual.enter(x), memory, memory_bias)
        return self._feed(self.cross_residual.leave(x, y))

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
        x = self.self_residual.leave(x, self.self_attention.attend(query, written.read(), written_bias))
        y = self.cross_attention(self.cross_residual.enter(x), memory, memory_bias)
        return self._feed(self.cross_residual.leave(x, y))

    def _feed(self, x: Tensor) -> Tensor:
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))

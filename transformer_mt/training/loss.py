"""Label-smoothed cross-entropy, with the projection to the vocabulary inside."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_mt.model.decoded import alignment_layer
from transformer_mt.model.layout import ROWS
from transformer_mt.model.linear import outer_product, product

_HELD = 1 << 25  # bytes of logits that are held at once
_CACHED = 1 << 20  # logits whose softmax is computed at once
_LEAST = 1e-9  # attention below it counts as this: what a window leaves out is 0


@dataclass(frozen=True)
class Loss:
    """``smoothed`` is what is minimised, a sum over M target tokens; ``nll`` [M] are their -log p, in nats."""

    smoothed: Tensor
    nll: Tensor


def smoothed_cross_entropy(hidden: Tensor, projection: Tensor, target: Tensor, smoothing: float) -> Loss:
    """The loss of hidden [M, D] under projection [V, D] for the right tokens target [M], none of them padding.

    Smoothing (Szegedy et al. 2016) puts ε/(V-1) on each wrong token and 1-ε on the right one: with z = hidden Wᵀ, the
    loss of a row is -Σ q_j log softmax(z)_j, and its gradient in z is softmax(z) - q.
    """
    learning = torch.is_grad_enabled()
    smoothed, nll = _FusedLoss.apply(hidden, projection, target, smoothing, learning)  # type: ignore[no-untyped-call]
    return Loss(smoothed, nll)


def choice_loss(choice: Tensor, baseline: Tensor, nll: Tensor, real: Tensor, *, told: bool) -> Tensor:
    """What trains the choices of hard attention: -Σ (R - b) log p, and Σ (R - b)² / 2 for the baseline b.

    choice and baseline [B, T] as in :class:`transformer_mt.model.decoded.Decoded`, nll [M] of the target tokens, which
    are the ``real`` ones [M] of B · T positions. The gradient of the first sum is the score function's estimate of that
    of -E[Σ R] (Williams 1992). R is log p of the target from a position on when its choice is ``told`` to the next
    ones, and of the token at the position alone where it is not.
    """
    reward = nll.new_zeros(choice.numel()).index_copy(0, real, -nll).view_as(choice)  # [B, T]
    if told:
        reward = reward.flip(1).cumsum(1).flip(1)
    surprise, choice = (reward - baseline).flatten()[real], choice.flatten()[real]
    chosen = choice != 0  # else the mean was read: b is what comes of a choice
    return (chosen * surprise.square() / 2 - surprise.detach() * choice).sum()


def guided_loss(attention: list[Tensor], guide: Tensor) -> Tensor:
    """-Σ guide · log(attention): the cross-entropy of attention and a word alignment (Chen et al. 2016).

    attention [B, H, T, S] of each of L layers and guide [B, T, S]. It is the first head of one layer that learns the
    alignment; the others stay free (Garg et al. 2019).
    """
    guided = attention[alignment_layer(len(attention))][:, 0]
    return -(guide * guided.float().clamp(min=_LEAST).log()).sum()


class _FusedLoss(torch.autograd.Function):
    """Computes the gradient in the forward pass, part by part, so that [M, V] logits are never held whole."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, projection: Tensor, target: Tensor, smoothing: float, learning: bool
    ) -> tuple[Tensor, Tensor]:
        vocabulary, real = len(projection), len(hidden)
        wrong, right = smoothing / (vocabulary - 1), 1 - smoothing
        hidden = F.pad(hidden, (0, 0, 0, -real % ROWS))  # to rows that come again
        weight = projection.to(hidden.dtype).T.contiguous()  # [D, V]: so both products are faster
        everything = projection.sum(0)  # [D]: hidden times it is the sum of a row's logits
        hidden_gradient, weight_gradient = torch.empty_like(hidden), None
        smoothed = torch.zeros((), device=hidden.device)
        nll = torch.empty(real, device=hidden.device)
        held = max(1, _HELD // (vocabulary * hidden.element_size() * ROWS)) * ROWS
        for start in range(0, real, held):
            rows, gold = hidden[start : start + held], target[start : start + held, None]
            logits = product(rows, weight.T)  # [held, V]
            known, unknown = logits[: len(gold)], logits[len(gold) :]
            chosen = known.gather(1, gold)
            # The gradient is p - q; what q is everywhere, ε/(V-1), is taken off at the end.
            log_sum = _turn_to_gradient(known, gold, right - wrong, learning)
            row_nll = (log_sum - chosen)[:, 0]
            all_nll = vocabulary * log_sum.sum() - rows.float().sum(0) @ everything
            nll[start : start + held] = row_nll
            smoothed += (right - wrong) * row_nll.sum() + wrong * all_nll
            if learning:
                unknown.zero_()
                hidden_gradient[start : start + held] = product(logits, weight)
                part = outer_product(logits, rows)
                weight_gradient = part.to(projection.dtype) if weight_gradient is None else weight_gradient.add_(part)
            del logits, known, unknown  # the next ones may have their room
        if learning:
            hidden_gradient -= wrong * everything
            weight_gradient = torch.zeros_like(projection) if weight_gradient is None else weight_gradient
            weight_gradient -= wrong * hidden.float().sum(0)
        ctx.save_for_backward(hidden_gradient[:real], weight_gradient)
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        scale = gradients[0]
        return hidden_gradient * scale, weight_gradient * scale, None, None, None


def _turn_to_gradient(logits: Tensor, gold: Tensor, right: float, learning: bool) -> Tensor:
    """Turn logits [M, V] into their softmax, less ``right`` at the gold token [M, 1]; return log Σ exp of them [M, 1].

    All is computed in float32. Unless ``learning``, nobody reads what has become of the logits, and it is anything.
    """
    log_sum = torch.empty(gold.shape, device=logits.device)
    # A few rows at a time stay in a CPU's cache from one pass to the next.
    few = max(1, _CACHED // logits.shape[1]) if logits.is_cpu else len(logits)
    rounded = logits.dtype != torch.float32
    room = torch.empty(few if rounded else 0, logits.shape[1], device=logits.device)
    for start in range(0, len(logits), few):
        part = logits[start : start + few]
        exact = room[: len(part)].copy_(part) if rounded else part
        greatest = exact.amax(1, keepdim=True)
        p = torch.softmax(exact, 1, out=exact)
        # Of the likeliest token, p = exp(greatest - log_sum).
        log_sum[start : start + few] = greatest - p.amax(1, keepdim=True).log()
        if learning:
            p.scatter_add_(1, gold[start : start + few], p.new_full((len(part), 1), -right))
            if rounded:
                part.copy_(p)
    return log_sum

"""The likeliest word of a vocabulary, without all of its logits."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from transformer_mt.model.int8 import quantized, whole_product
from transformer_mt.special import EOS

SPAN = 64  # neighbouring words whose maximum is looked at first
_MOST = 8  # spans of a row: where more are left, all products are as fast
_ROUNDING = 1e-5  # of a product in float32, in units of both norms


class Screen:
    """Argmax over the words v of w_v · h, in float32, for which few of these products have to be computed.

    Integers ŵ and ĥ of 8 bits, with their scales, say in a third of the time what each is, but for (Cauchy-Schwarz)

        |w · h - ŵ · ĥ| ≤ ‖w - ŵ‖ ‖h‖ + ‖ŵ‖ ‖h - ĥ‖

    Words that another one beats for certain are out, and about two are left. ``logits`` gives all products of rows that
    leave too many.
    """

    def __init__(self, weight: Tensor, logits: Callable[[Tensor], Tensor]) -> None:
        self.weight, self.logits = weight, logits  # [V, D]

    @cached_property
    def _stored(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ŵ [D, V] and its scale [V], the last word filling up the last span; of each span the greatest norms.

        These are ‖ŵ‖ and ‖w - ŵ‖, [V / SPAN]: a word unlike the others loosens the bounds of its neighbours alone. Made
        at first use, as a beam has none.
        """
        words = torch.arange(-(-len(self.weight) // SPAN) * SPAN).clamp_max_(len(self.weight) - 1)
        weight = self.weight[words]
        numbers, scale = quantized(weight)
        stored = numbers * scale
        norms = (torch.linalg.vector_norm(x, dim=1) for x in (stored, weight - stored))
        kept, lost = (norm.view(-1, SPAN).amax(1) for norm in norms)
        return numbers.to(torch.int8).T, scale[:, 0], kept, lost

    def __call__(self, hidden: Tensor, *, may_end: bool) -> Tensor:
        """Hidden [R, D] → words [R], EOS only if it ``may_end``; of equals the first."""
        weight, scales, *norms = self._stored
        numbers, scale = quantized(hidden)
        rough = whole_product(numbers, weight).mul_(scales)  # ŵ · ĥ, in units of the scale of ĥ
        if not may_end:
            rough[:, EOS] = float("-inf")
        spans = rough.view(len(hidden), -1, SPAN)
        maxima, missed = spans.amax(2), _missed(hidden, hidden - numbers * scale, *norms).div_(scale)  # [R, V / SPAN]
        least = (maxima - missed).amax(1)  # that the likeliest word has for certain
        near = maxima + missed >= least[:, None]
        many = near.sum(1) > _MOST  # told by a row alone, as is how it is rounded
        if some := bool(many.any()):
            near[many] = False
        row, span = torch.where(near)
        index, place = torch.where(spans[row, span] >= (least[row] - missed[row, span])[:, None])
        words = (span[index] * SPAN + place).clamp_max_(len(self.weight) - 1)
        if len(hidden) == len(words) == 1:
            return words
        found = self._greatest(hidden, row[index], words)
        if some:
            found[many] = likeliest(self.logits(hidden[many]), may_end=may_end)
        return found

    def _greatest(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """For each row of hidden that of its candidates, pairs of rows and words [C], with the greatest w · h."""
        logits = (hidden[rows] * self.weight[words]).sum(1)  # [C]
        best = logits.new_full((len(hidden),), float("-inf")).scatter_reduce_(0, rows, logits, "amax")
        found = logits == best[rows]
        last = rows.new_full((len(hidden),), len(self.weight) - 1)
        return last.scatter_reduce_(0, rows[found], words[found], "amin")


def _missed(hidden: Tensor, rest: Tensor, kept: Tensor, lost: Tensor) -> Tensor:
    """The bound of each span, [R, V / SPAN], for hidden [R, D] of which ``rest`` is not in the integers."""
    norm, left = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (hidden, rest))
    bound: Tensor = norm * lost + (left + _ROUNDING * norm) * kept
    return bound


def likeliest(logits: Tensor, *, may_end: bool) -> Tensor:
    """The words [R] of the greatest of logits [R, V], EOS only if it ``may_end``; of equals the first."""
    if not may_end:
        logits[:, EOS] = float("-inf")
    return argmax(logits)


def argmax(logits: Tensor) -> Tensor:
    """The place [R] of the greatest of each row of logits [R, V]; PyTorch's own looks at them number by number."""
    vocabulary = logits.shape[1]
    whole = vocabulary // SPAN * SPAN
    if not whole:
        return logits.argmax(1)
    maxima = logits[:, :whole].reshape(len(logits), -1, SPAN).amax(2)
    if whole < vocabulary:
        maxima = torch.cat((maxima, logits[:, whole:].amax(1, keepdim=True)), dim=1)
    first = (maxima.argmax(1, keepdim=True) * SPAN).clamp_max_(vocabulary - SPAN)
    places = first + torch.arange(SPAN, device=logits.device)
    return places.gather(1, logits.gather(1, places).argmax(1, keepdim=True))[:, 0]

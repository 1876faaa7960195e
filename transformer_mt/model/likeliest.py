"""The likeliest word of a vocabulary, without all of its logits."""

import torch
from torch import Tensor

from transformer_mt.model.int8 import quantized, whole_product
from transformer_mt.special import EOS

_SPAN = 64  # neighbouring words whose maximum is looked at first


class Screen:
    """Argmax over the words v of w_v · h, for which few of these products have to be computed in float32.

    Integers ŵ and ĥ of 8 bits, with their scales, say in a third of the time what each cannot exceed (Cauchy-Schwarz):

        |w · h - ŵ · ĥ| ≤ ‖w - ŵ‖ ‖h‖ + ‖ŵ‖ ‖h - ĥ‖

    A word that is less than the greatest by more than twice that cannot be the likeliest; about two are left. If it is
    not to be ``exact``, the greatest ŵ · ĥ is taken.
    """

    def __init__(self, weight: Tensor, *, exact: bool) -> None:
        self.weight, self.exact = weight, exact  # [V, D]
        numbers, scale = quantized(weight)
        stored = numbers * scale
        self.kept, self.lost = (float(x.norm(dim=1).max()) for x in (stored, weight - stored))
        more = torch.arange(-(-len(weight) // _SPAN) * _SPAN).clamp_max_(len(weight) - 1)  # the last word fills up
        self.numbers, self.scale = numbers.to(torch.int8)[more].T, scale[more, 0]

    def __call__(self, hidden: Tensor, *, may_end: bool) -> Tensor:
        """Hidden [R, D] → words [R], EOS only if it ``may_end``; of equals the first."""
        numbers, scale = quantized(hidden)
        rough = whole_product(numbers, self.numbers).mul_(self.scale)  # ŵ · ĥ, without the scale of ĥ
        if not may_end:
            rough[:, EOS] = float("-inf")
        spans = rough.view(len(hidden), -1, _SPAN)
        maxima = spans.amax(2)
        least = maxima.amax(1)
        if self.exact:
            missed = self.lost * hidden.norm(dim=1) + self.kept * (hidden - numbers * scale).norm(dim=1)
            least -= 2.001 * missed / scale[:, 0]  # a thousandth for the rounding of float32
        some, span = (maxima >= least[:, None]).nonzero(as_tuple=True)
        index, place = (spans[some, span] >= least[some, None]).nonzero(as_tuple=True)
        rows, words = some[index], (span[index] * _SPAN + place).clamp_max_(len(self.weight) - 1)  # candidates, [C]
        if self.exact:
            rows, words = self._greatest(hidden, rows, words)
        last = rows.new_full((len(hidden),), len(self.weight) - 1)
        return last.scatter_reduce_(0, rows, words, "amin")

    def _greatest(self, hidden: Tensor, rows: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates that have the greatest w · h of a row."""
        logits = (hidden[rows] * self.weight[words]).sum(1)  # [C]
        best = logits.new_full((len(hidden),), float("-inf")).scatter_reduce_(0, rows, logits, "amax")
        found = logits == best[rows]
        return rows[found], words[found]


def argmax(logits: Tensor) -> Tensor:
    """The place [R] of the greatest of each row of logits [R, V]; PyTorch's own looks at them number by number."""
    vocabulary = logits.shape[1]
    whole = vocabulary // _SPAN * _SPAN
    if not whole:
        return logits.argmax(1)
    maxima = logits[:, :whole].reshape(len(logits), -1, _SPAN).amax(2)
    if whole < vocabulary:
        maxima = torch.cat((maxima, logits[:, whole:].amax(1, keepdim=True)), dim=1)
    first = (maxima.argmax(1, keepdim=True) * _SPAN).clamp_max_(vocabulary - _SPAN)
    places = first + torch.arange(_SPAN, device=logits.device)
    return places.gather(1, logits.gather(1, places).argmax(1, keepdim=True))[:, 0]

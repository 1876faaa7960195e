"""Hard attention: each query takes one position, and learns which by trial (Xu et al. 2015, section 4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_mt.model.attention import Full, KeyValue
from transformer_mt.model.linear import Linear
from transformer_mt.model.scores import Dot

_MEAN = 0.5  # the share of training's queries that read the mean


class Hard(Full):
    """The position is drawn from softmax(score) in training, and the likeliest one otherwise.

    No gradient comes back through a choice. The score function's, (R - b) ∇ log p (Williams 1992), takes its place: see
    :func:`transformer_mt.training.loss.choice_loss`; ``baseline`` learns to expect the reward R from the query alone.
    Half of the time training takes the mean of all values in place of one, through which the gradient does come back.
    """

    def __init__(self, score: Dot, width: int) -> None:
        super().__init__(score)
        self.baseline = Linear(width, 1)

    def forward(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The likeliest position: queries [B, T, D] → output [B, T, D] and weights [B, T, S], all but one of them 0."""
        weights = self._one(memory, self._log_p(query, memory, bias).argmax(-1))
        return weights @ memory.value, weights

    def draw(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`forward` with positions drawn; also log p of them and the baseline, [B, T] each.

        Log p is 0 where the mean is taken: nothing was chosen.
        """
        log_p = self._log_p(query, memory, bias)
        position, mean = self._drawn(log_p.detach()), self._mean(log_p)
        choice = log_p.gather(2, position[:, :, None])[:, :, 0].masked_fill(mean, 0.0)
        one = self._one(memory, position)
        weights = torch.where(mean[:, :, None], log_p.exp().to(one.dtype), one)
        return weights @ memory.value, weights, choice, self.baseline(query.detach())[:, :, 0].float()

    def _mean(self, log_p: Tensor) -> Tensor:
        """Where the mean is taken, [B, T]."""
        return torch.rand(log_p.shape[:2], device=log_p.device) < _MEAN

    def _drawn(self, log_p: Tensor) -> Tensor:
        """A position [B, T] by its probability: that of the greatest log p + Gumbel noise; NaN raises no error here."""
        return (log_p - torch.empty_like(log_p).exponential_().log()).argmax(-1)

    def _log_p(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> Tensor:
        scores = self.score(query, memory.key)
        scores = scores if bias is None else scores + bias
        return scores.float().log_softmax(-1)  # type: ignore[no-any-return]  # [B, T, S]

    def _one(self, memory: KeyValue, position: Tensor) -> Tensor:
        """The weights [B, T, S] of one position each, [B, T]."""
        return F.one_hot(position, memory.key.shape[1]).to(memory.value.dtype)

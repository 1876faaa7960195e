"""Scores: how well a key answers a query; softmax makes weights of them. All models share them.

A score is a module: score(query [..., T, K], score.prepare(key [..., S, K])) → [..., T, S]. A new one is a class here
and its name in :data:`transformer_mt.config.Score`.
"""

import math

import torch
from torch import Tensor, nn

from transformer_mt.model.linear import Linear, matmul


class Dot(nn.Module):
    """q · k (Luong et al. 2015, section 3.1); what other scores change of it is theirs.

    ``factor`` scales the product of query and prepared key.
    """

    factor = 1.0

    def __init__(self, width: int) -> None:
        super().__init__()

    def initialise(self) -> None:
        """Change what was initialised as any other weights are."""

    def prepare(self, key: Tensor) -> Tensor:
        """What is done to keys [..., S, K] before there is a query; the same shape."""
        return key

    def forward(self, query: Tensor, prepared: Tensor) -> Tensor:
        """Query [..., T, K], prepared keys [..., S, K] → scores [..., T, S]."""
        scores = matmul(query, prepared.transpose(-2, -1))
        return scores if self.factor == 1.0 else scores.mul_(self.factor)


class ScaledDot(Dot):
    """q · k / √K (Vaswani et al. 2017, equation 1): of entries of variance 1, a score of variance 1."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.factor = 1 / math.sqrt(width)


class General(Dot):
    """qᵀ W k (Luong et al. 2015, section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.key = Linear(width, width, bias=False)

    @torch.no_grad()
    def initialise(self) -> None:
        """At first a score is no larger than with 1/√K: else softmax saturates, and learning takes long to begin."""
        self.key.weight.mul_(1 / math.sqrt(len(self.key.weight)))

    def prepare(self, key: Tensor) -> Tensor:
        """W k."""
        return self.key(key)  # type: ignore[no-any-return]


class Additive(Dot):
    """vᵀ tanh(W q + U k) (Bahdanau et al. 2015, section A.1.2); it holds T · S · K numbers."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.query, self.key = Linear(width, width, bias=False), Linear(width, width, bias=False)
        self.out = nn.Parameter(torch.empty(width).uniform_(-1, 1) * math.sqrt(3 / width))  # v, of length 1

    def prepare(self, key: Tensor) -> Tensor:
        """U k."""
        return self.key(key)  # type: ignore[no-any-return]

    def forward(self, query: Tensor, prepared: Tensor) -> Tensor:
        """As :meth:`Dot.forward`."""
        hidden = torch.tanh(self.query(query)[..., :, None, :] + prepared[..., None, :, :])  # [..., T, S, K]
        return (hidden * self.out.to(hidden.dtype)).sum(-1)


class Concat(Additive):
    """vᵀ tanh(W [q; k]) (Luong et al. 2015, section 3.1): W = [W₁ W₂], so that W [q; k] is W₁ q + W₂ k.

    It is the additive score, but for the first values of W.
    """


def make_score(name: str, width: int) -> Dot:
    """The score that the configuration names, for queries and keys of that width: ``scaled_dot`` is ScaledDot."""
    score: type[Dot] = globals()[name.title().replace("_", "")]
    return score(width)

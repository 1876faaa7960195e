"""Linear attention: the softmax becomes a product of features, so that sums over keys can be kept as a matrix.

Schmidhuber (1992) called that matrix fast weights: each key and value adds φ(k) vᵀ to it, a query reads φ(q) times it.
"""

import torch.nn.functional as F
from torch import Tensor

from transformer_mt.model.attention import Full, KeyValue
from transformer_mt.model.linear import matmul
from transformer_mt.model.scores import Dot

_CHUNK = 64  # positions that attend to one another in full, before their sums go into the matrix
_LEAST = 1e-6  # sum of weights: features may vanish


class FastWeights(Full):
    """φ(q) (Σ φ(k) vᵀ) / φ(q) Σ φ(k), with φ(x) = elu(x) + 1 (Katharopoulos et al. 2020), at a cost of O(n · K · D)."""

    def __init__(self) -> None:
        super().__init__(Dot(0))

    def prepare(self, key: Tensor) -> Tensor:
        """φ(k)."""
        return features(key)

    def forward(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :meth:`Full.forward`: the weights are φ(q) · φ(k), divided by their sum."""
        weights = self.score(features(query), memory.key).float()
        if bias is not None:
            weights = weights * bias.exp()
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(_LEAST)
        return matmul(weights.to(memory.value.dtype), memory.value), weights

    def among(self, query: Tensor, memory: KeyValue, bias: Tensor, *, causal: bool) -> Tensor:
        """As :meth:`Full.among`; the bias is looked at for padding only."""
        query, key = features(query).float(), memory.key.float()
        value = F.pad(memory.value.float(), (0, 1), value=1.0)  # [B, H, S, K + 1]: the last column sums the weights
        found = _up_to_itself(query, key, value) if causal else query @ _sums(key * (bias == 0).transpose(2, 3), value)
        return (found[..., :-1] / found[..., -1:].clamp_min(_LEAST)).to(memory.value.dtype)


def features(x: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1, positive."""
    return F.elu(x) + 1


def _sums(key: Tensor, value: Tensor) -> Tensor:
    """Σ φ(k) vᵀ over the positions: [..., S, K] and [..., S, K'] → [..., K, K']."""
    return key.transpose(-2, -1) @ value


def _up_to_itself(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What each position reads of the sums up to its own: those of the chunks before, and its own chunk in full."""
    length = query.shape[2]
    chunks = -(-length // _CHUNK)
    query, key, value = (
        F.pad(x, (0, 0, 0, chunks * _CHUNK - length)).view(*x.shape[:2], chunks, _CHUNK, -1)
        for x in (query, key, value)
    )
    sums = _sums(key, value)  # [B, H, n, K, K']
    before = sums.cumsum(2) - sums
    return (query @ before + (query @ key.transpose(-2, -1)).tril() @ value).flatten(2, 3)[:, :, :length]

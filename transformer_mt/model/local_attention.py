"""Local attention with a predicted centre (Luong et al. 2015, section 3.2, local-p)."""

import torch
from torch import Tensor

from transformer_mt.model.attention import Full, KeyValue, softmax
from transformer_mt.model.linear import Linear, matmul, sigmoid
from transformer_mt.model.scores import Dot


class Local(Full):
    """softmax(score) over the window |s - p| ≤ r, times exp(-(s - p)² / 2σ²), with σ = r / 2.

    The centre p = S · σ(vᵀ tanh(W q)) lies somewhere in the S source positions; its gradient is that of the Gaussian.
    """

    def __init__(self, score: Dot, width: int, radius: int) -> None:
        super().__init__(score)
        self.radius = radius
        self.hidden, self.centre = Linear(width, width, bias=False), Linear(width, 1, bias=False)

    def forward(self, query: Tensor, memory: KeyValue, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries [B, T, D] → output [B, T, D] and weights [B, T, S]; the bias [B, 1, S] hides padding."""
        assert bias is not None
        length = (bias == 0).sum(-1, keepdim=True)  # [B, 1, 1]
        centre = length * sigmoid(self.centre(torch.tanh(self.hidden(query))).float())  # [B, T, 1]
        distance = torch.arange(memory.key.shape[1], device=query.device) - centre  # [B, T, S]
        outside = distance.abs() > self.radius
        scores = (self.score(query, memory.key) + bias).masked_fill(outside, float("-inf"))
        weights = softmax(scores) * torch.exp(-2 * (distance / self.radius) ** 2)
        weights = weights.to(memory.value.dtype)
        return matmul(weights, memory.value), weights

"""Recurrent cells: a state that reads one input after the other."""

import torch
from torch import Tensor, nn

from transformer_mt.model.linear import Linear, sigmoid


class GRU(nn.Module):
    """The gated recurrent unit (Cho et al. 2014; r after the product, as in cuDNN), its state h.

    r, z = σ(W x + U h), n = tanh(W x + r ⊙ U h), h' = (1 - z) ⊙ n + z ⊙ h.
    """

    parts = 1  # of a state, D numbers each; the first is the output

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.inputs, self.recurrence = Linear(inputs, 3 * width), Linear(width, 3 * width)

    def forward(self, mapped: Tensor, state: Tensor) -> Tensor:
        """``mapped`` [B, 3D] is ``inputs`` of x; state [B, D] → [B, D]."""
        kept = self.recurrence(state)
        new, proposed = mapped[:, 2 * self.width :], kept[:, 2 * self.width :]
        r, z = sigmoid(mapped[:, : 2 * self.width] + kept[:, : 2 * self.width]).chunk(2, dim=1)
        n = torch.tanh(torch.addcmul(new, r, proposed))
        return torch.lerp(n, state, z)


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000), its state h and c side by side.

    i, f, o = σ(W x + U h), g = tanh(W x + U h), c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh(c'). At first f is σ(1).
    """

    parts = 2

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.inputs, self.recurrence = Linear(inputs, 4 * width), Linear(width, 4 * width)

    def forward(self, mapped: Tensor, state: Tensor) -> Tensor:
        """``mapped`` [B, 4D] is ``inputs`` of x; state [B, 2D] → [B, 2D]."""
        h, c = state.chunk(2, dim=1)
        i, f, o, g = (mapped + self.recurrence(h)).chunk(4, dim=1)
        c = sigmoid(f + 1) * c + sigmoid(i) * torch.tanh(g)
        return torch.cat((sigmoid(o) * torch.tanh(c), c), dim=1)


Cell = GRU | LSTM


def make_cell(name: str, inputs: int, width: int) -> Cell:
    """The cell that the configuration names."""
    return GRU(inputs, width) if name == "gru" else LSTM(inputs, width)


def read(cell: Cell, x: Tensor, real: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
    """Let a cell read x [B, S, in], ``backwards`` from its end, passing by what is not ``real`` [B, S].

    Returns the output at each position [B, S, D], and the last [B, D].
    """
    mapped = cell.inputs(x).unbind(1)  # at once: the gradient of each slice would be as large as all of it
    state = x.new_zeros(len(x), cell.parts * cell.width)
    outputs = [state] * x.shape[1]
    for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        state = torch.where(real[:, t, None], cell(mapped[t], state), state)
        outputs[t] = state
    return torch.stack([output[:, : cell.width] for output in outputs], dim=1), state[:, : cell.width]

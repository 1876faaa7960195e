"""The cells against PyTorch's own, and reading a batch against reading each sentence alone."""

import pytest
import torch
from torch import Tensor, nn

from transformer_mt.model.cells import GRU, LSTM, make_cell, read


def test_gru_equals_pytorch() -> None:
    """Its gates are in the order r, z, n, too, and its reset gate multiplies U h + b, as ours does."""
    torch.manual_seed(0)
    cell, theirs = GRU(5, 7), nn.GRUCell(5, 7)
    theirs.weight_ih.data, theirs.weight_hh.data = cell.inputs.weight.data, cell.recurrence.weight.data
    cell.inputs.bias.data.normal_()
    cell.recurrence.bias.data.normal_()
    theirs.bias_ih.data, theirs.bias_hh.data = cell.inputs.bias.data, cell.recurrence.bias.data
    x, h = torch.randn(3, 5), torch.randn(3, 7)
    torch.testing.assert_close(cell(cell.inputs(x), h), theirs(x, h))


def test_lstm_equals_pytorch() -> None:
    """Its gates are i, f, g, o, ours i, f, o, g; and ours adds 1 to f."""
    torch.manual_seed(0)
    cell, theirs = LSTM(5, 7), nn.LSTMCell(5, 7)

    def theirs_of(ours: Tensor) -> Tensor:
        i, f, o, g = ours.detach().chunk(4)
        return torch.cat((i, f, g, o))

    theirs.weight_ih.data, theirs.weight_hh.data = theirs_of(cell.inputs.weight), theirs_of(cell.recurrence.weight)
    theirs.bias_ih.data, theirs.bias_hh.data = theirs_of(cell.inputs.bias), theirs_of(cell.recurrence.bias)
    theirs.bias_ih.data[7:14] += 1
    x, h, c = torch.randn(3, 5), torch.randn(3, 7), torch.randn(3, 7)
    torch.testing.assert_close(cell(cell.inputs(x), torch.cat((h, c), dim=1)), torch.cat(theirs(x, (h, c)), dim=1))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_read_passes_by_padding(name: str, backwards: bool) -> None:
    """Each sentence alone, by a loop; the last output, too, is that of its own last position."""
    torch.manual_seed(0)
    cell, lengths = make_cell(name, 5, 7), (6, 1, 4)
    x = torch.randn(3, 6, 5)
    real = torch.arange(6) < torch.tensor(lengths)[:, None]
    outputs, last = read(cell, x, real, backwards=backwards)
    assert outputs.shape == (3, 6, 7)
    for b, n in enumerate(lengths):
        state, wanted = torch.zeros(1, cell.parts * 7), {}
        for t in range(n)[::-1] if backwards else range(n):
            state = cell(cell.inputs(x[b : b + 1, t]), state)
            wanted[t] = state[0, :7]
        torch.testing.assert_close(outputs[b, :n], torch.stack([wanted[t] for t in range(n)]))
        torch.testing.assert_close(last[b], wanted[0 if backwards else n - 1])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_padding_has_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    cell, x = make_cell(name, 5, 7), torch.randn(2, 4, 5, requires_grad=True)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    outputs, last = read(cell, x, real, backwards=True)
    (gradient,) = torch.autograd.grad((outputs * real[:, :, None]).sum() + last.sum(), x)
    assert gradient[1, 2:].count_nonzero() == 0
    assert gradient[real].count_nonzero() == 6 * 5

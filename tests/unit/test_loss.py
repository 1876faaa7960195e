"""The fused loss against the formula by hand, PyTorch's own, and automatic differentiation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_mt.training.loss import smoothed_cross_entropy


def test_one_token_by_hand() -> None:
    """Logits ln 2, ln 1, ln 1: p = ½, ¼, ¼; ε = 0.2 puts 0.8 on the right token and 0.1 on each wrong one."""
    loss = smoothed_cross_entropy(
        torch.tensor([[1.0]]), torch.log(torch.tensor([[2.0], [1], [1]])), torch.tensor([0]), 0.2
    )
    assert loss.nll.item() == pytest.approx(math.log(2))
    assert loss.smoothed.item() == pytest.approx(0.8 * math.log(2) + 2 * 0.1 * math.log(4))


def example(rows: int, vocabulary: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    hidden = torch.randn(rows, width, requires_grad=True)
    projection = torch.randn(vocabulary, width, requires_grad=True)
    return hidden, projection, torch.randint(vocabulary, (rows,))


def test_equals_pytorch_at_its_own_epsilon() -> None:
    """PyTorch spreads ε over all V tokens, the right one too: ours at ε is its at ε·V/(V-1)."""
    hidden, projection, target = example(rows=13, vocabulary=7, width=5)
    theirs = F.cross_entropy(hidden @ projection.T, target, label_smoothing=0.1 * 7 / 6, reduction="sum")
    torch.testing.assert_close(smoothed_cross_entropy(hidden, projection, target, 0.1).smoothed, theirs)


@pytest.mark.parametrize("rows", [3, 1024, 2049])
def test_gradients_equal_the_naive_ones(rows: int) -> None:
    """Also where the rows do not fill their chunks."""
    hidden, projection, target = example(rows, vocabulary=11, width=5)
    (smoothed_cross_entropy(hidden, projection, target, 0.1).smoothed * 0.5).backward()  # type: ignore[no-untyped-call]
    ours = hidden.grad, projection.grad
    hidden.grad = projection.grad = None
    log_p = (hidden @ projection.T).log_softmax(-1)
    wanted = torch.full_like(log_p, 0.1 / 10).scatter(1, target[:, None], 0.9)
    (-(wanted * log_p).sum() * 0.5).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, (hidden.grad, projection.grad), atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_close() -> None:
    hidden, projection, target = example(rows=64, vocabulary=101, width=16)
    exact = smoothed_cross_entropy(hidden, projection, target, 0.1).smoothed
    rough = smoothed_cross_entropy(hidden.bfloat16(), projection, target, 0.1).smoothed
    torch.testing.assert_close(rough, exact, rtol=1e-2, atol=0)

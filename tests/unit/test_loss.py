"""The fused loss against the formula by hand, PyTorch's own, and automatic differentiation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import transformer_mt.training.loss as loss_module
from transformer_mt.training.loss import choice_loss, guided_loss, smoothed_cross_entropy


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


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 11 words, the float32 logits of 6 rows are held at once, and the softmax of 2 is computed at once."""
    monkeypatch.setattr(loss_module, "_HELD", 4 * 66)
    monkeypatch.setattr(loss_module, "_CACHED", 22)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("rows", [1, 6, 23])
def test_gradients_equal_the_naive_ones(rows: int) -> None:
    """Also where the rows do not fill what is held, or computed, at once."""
    hidden, projection, target = example(rows, vocabulary=11, width=5)
    (smoothed_cross_entropy(hidden, projection, target, 0.1).smoothed * 0.5).backward()  # type: ignore[no-untyped-call]
    ours = hidden.grad, projection.grad
    hidden.grad = projection.grad = None
    log_p = (hidden @ projection.T).log_softmax(-1)
    wanted = torch.full_like(log_p, 0.1 / 10).scatter(1, target[:, None], 0.9)
    (-(wanted * log_p).sum() * 0.5).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, (hidden.grad, projection.grad), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("small_parts")
def test_bfloat16_stays_close() -> None:
    """The loss of every row, and the gradients: a part of a part is rounded at its own place."""
    hidden, projection, target = example(rows=23, vocabulary=11, width=16)
    exact = smoothed_cross_entropy(hidden, projection, target, 0.1)
    exact.smoothed.backward()  # type: ignore[no-untyped-call]
    wanted, hidden.grad, projection.grad = (hidden.grad, projection.grad), None, None
    rough = smoothed_cross_entropy(hidden.bfloat16(), projection, target, 0.1)
    rough.smoothed.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(rough.nll, exact.nll, rtol=0, atol=0.06)
    torch.testing.assert_close((hidden.grad, projection.grad), wanted, rtol=0, atol=0.04)


@pytest.mark.parametrize(
    ("told", "reward"),
    # of the second sentence the third position is padding
    [(False, [[-1.0, -2.0, -4.0], [-8.0, -16.0]]), (True, [[-7.0, -6.0, -4.0], [-24.0, -16.0]])],
)
def test_choice_loss_by_hand(told: bool, reward: list[list[float]]) -> None:
    """Its value is Σ (R - b)² / 2 - (R - b) log p; choices are taught by R - b, the baseline by b - R, padding by 0."""
    choice = torch.tensor([[-0.5, -1.0, -2.0], [-0.25, -3.0, -9.0]], requires_grad=True)
    baseline = torch.tensor([[1.0, -3.0, 0.5], [0.0, -20.0, 5.0]], requires_grad=True)
    nll, real = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([0, 1, 2, 3, 4])
    loss = choice_loss(choice, baseline, nll, real, told=told)
    surprise = [[r - b for r, b in zip(rs, bs, strict=False)] for rs, bs in zip(reward, baseline.tolist(), strict=True)]
    pairs = [(s, c) for ss, cs in zip(surprise, choice.tolist(), strict=True) for s, c in zip(ss, cs, strict=False)]
    assert loss.item() == pytest.approx(sum(s * s / 2 - s * c for s, c in pairs))
    loss.backward()  # type: ignore[no-untyped-call]
    wanted = torch.tensor([surprise[0], [*surprise[1], 0.0]])
    torch.testing.assert_close(choice.grad, -wanted)
    torch.testing.assert_close(baseline.grad, -wanted)


def test_guided_loss_by_hand() -> None:
    """Of one layer and two heads the first is guided; where nothing is to be attended to, nothing is lost.

    What cannot be attended to at all, as outside of a window, costs much, but has no gradient.
    """
    head = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    attention = torch.stack([head, torch.full((3, 3), 1 / 3)])[None].requires_grad_()  # [B, H, T, S]
    guide = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    loss = guided_loss([attention], guide)
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4) + math.log(1e9))
    loss.backward()  # type: ignore[no-untyped-call]
    assert attention.grad is not None
    wanted = torch.zeros(2, 3, 3)
    wanted[0, 0, :2] = torch.tensor([-0.5 / 0.5, -0.5 / 0.25])
    torch.testing.assert_close(attention.grad[0], wanted)

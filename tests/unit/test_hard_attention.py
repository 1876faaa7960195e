"""Hard attention: its gradient is, on average over what is drawn, that of the expected log-probability."""

import itertools
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from transformer_mt import config
from transformer_mt.model.attention import KeyValue
from transformer_mt.model.decoded import Decoded
from transformer_mt.model.hard_attention import Hard
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.model.scores import Dot
from transformer_mt.special import BOS, EOS
from transformer_mt.training.loss import choice_loss, smoothed_cross_entropy

VOCABULARY = 7
SOURCE = torch.tensor([[4, 5, EOS]])


def example() -> tuple[Hard, Tensor, KeyValue, Tensor]:
    """Scores are the queries, for keys are unit vectors; the last position of the second sentence is padding."""
    torch.manual_seed(0)
    mix = Hard(Dot(4), 4)
    values = torch.randn(2, 4, 4)
    bias = torch.zeros(2, 1, 4)
    bias[1, 0, 3] = float("-inf")
    return mix, torch.randn(2, 5, 4), KeyValue(torch.eye(4).expand(2, 4, 4), values), bias


def test_evaluation_takes_the_likeliest_position() -> None:
    mix, query, memory, bias = example()
    output, weights = mix(query, memory, bias)
    for b, n in ((0, 4), (1, 3)):
        for t in range(5):
            best = max(range(n), key=lambda s: float(query[b, t, s]))
            assert weights[b, t].tolist() == [float(s == best) for s in range(4)]
            torch.testing.assert_close(output[b, t], memory.value[b, best])


def test_draws_are_as_frequent_as_softmax_says() -> None:
    """10,000 of each query: a deviation of 0.005; padding is never drawn."""
    mix, query, memory, bias = example()
    many = query[:, :1].expand(-1, 10_000, -1)
    with patch.object(Hard, "_mean", nowhere):
        output, weights, choice, baseline = mix.draw(many, memory, bias)
    assert (weights.sum(-1) == 1).all()
    torch.testing.assert_close(output, weights @ memory.value)
    for b, n in ((0, 4), (1, 3)):
        p = query[b, 0, :n].softmax(0)
        torch.testing.assert_close(weights[b].mean(0)[:n], p, atol=0.02, rtol=0)
        assert weights[b, :, n:].count_nonzero() == 0
        torch.testing.assert_close(choice[b], p.log()[weights[b].argmax(-1)])
    torch.testing.assert_close(baseline, mix.baseline(many)[:, :, 0])


def nowhere(mix: Hard, log_p: Tensor) -> Tensor:
    """The mean is taken nowhere: all positions are drawn."""
    return torch.zeros(log_p.shape[:2], dtype=torch.bool)


def test_half_of_the_queries_read_the_mean_and_learn_from_its_gradient() -> None:
    mix, query, memory, bias = example()
    query = query[:, :1].expand(-1, 10_000, -1).detach().requires_grad_()
    output, weights, choice, _ = mix.draw(query, memory, bias)
    mean = choice == 0
    assert 0.48 < mean.float().mean() < 0.52
    for b, n in ((0, 4), (1, 3)):
        p = query[b, 0, :n].softmax(0)
        torch.testing.assert_close(weights[b, mean[b]][:, :n], p.expand(int(mean[b].sum()), -1))
    assert ((weights == 1).sum(-1) == 1)[~mean].all()
    torch.testing.assert_close(output, weights @ memory.value)
    [gradient] = torch.autograd.grad(output.sum(), query)
    assert gradient[mean].abs().sum(-1).min() > 0
    assert gradient[~mean].count_nonzero() == 0


def model(*, input_feeding: bool) -> Recurrent:
    torch.manual_seed(1)
    settings = {"width": 6, "attention": "hard", "score": "general", "dropout": 0.0, "input_feeding": input_feeding}
    m = Recurrent(config.Recurrent.model_validate({**settings, "kind": "recurrent"}), VOCABULARY).double()
    m.precision = torch.float64
    return m.train()


def run(m: Recurrent, target: list[int], positions: tuple[int, ...]) -> Decoded:
    """A pass in training whose draws are these positions, one a step."""
    drawn = iter(positions)

    def draw(attention: Hard, log_p: Tensor) -> Tensor:
        assert log_p.shape == (1, 1, 3)
        return torch.tensor([[next(drawn)]])

    with patch.object(Hard, "_drawn", draw), patch.object(Hard, "_mean", nowhere):
        decoded = m(SOURCE, torch.tensor([[BOS, *target[:-1]]]))
    assert next(drawn, None) is None
    assert isinstance(decoded, Decoded)
    return decoded


def log_p(m: Recurrent, decoded: Decoded, target: list[int]) -> Tensor:
    """Log p of each target token, [T]."""
    return m.logits(decoded.hidden)[0].log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]


def gradient(m: Recurrent, of: Tensor) -> dict[str, Tensor]:
    parameters = dict(m.named_parameters())
    found = torch.autograd.grad(of, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def exact(m: Recurrent, target: list[int]) -> dict[str, Tensor]:
    """The gradient of -E[log p(y)], all sequences of positions enumerated."""
    total = torch.zeros((), dtype=torch.float64)
    probability = torch.zeros((), dtype=torch.float64)
    for positions in itertools.product(range(3), repeat=len(target)):
        decoded = run(m, target, positions)
        assert decoded.choice is not None
        p = decoded.choice.sum().exp()
        total = total - p * log_p(m, decoded, target).sum()
        probability = probability + p.detach()
    assert probability.item() == pytest.approx(1)
    return gradient(m, total)


def estimated(m: Recurrent, target: list[int]) -> tuple[dict[str, Tensor], float]:
    """The average of what training computes from one draw; and how far draws are from it, as a variance."""
    mean: dict[str, Tensor] = {}
    square = 0.0
    for positions in itertools.product(range(3), repeat=len(target)):
        decoded = run(m, target, positions)
        assert decoded.choice is not None
        assert decoded.baseline is not None
        real = torch.arange(len(target))
        loss = smoothed_cross_entropy(decoded.hidden[0].float(), m.projection.float(), torch.tensor(target), 0.0)
        nll = -log_p(m, decoded, target)
        torch.testing.assert_close(loss.nll, nll.detach().float())
        choices = choice_loss(decoded.choice, decoded.baseline, nll.detach(), real, told=decoded.told)
        p = float(decoded.choice.detach().sum().exp())
        for name, value in gradient(m, nll.sum() + choices).items():
            mean[name] = mean.get(name, torch.zeros_like(value)) + p * value
            square += p * float(value.square().sum()) if "baseline" not in name else 0.0
    return mean, square


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("target", [[EOS], [4, EOS], [6, 6]], ids=str)
def test_the_score_function_gives_the_gradient_of_the_expectation(target: list[int], input_feeding: bool) -> None:
    """Whatever the baseline expects; its own parameters are not compared, for they learn something else."""
    m = model(input_feeding=input_feeding)
    wanted = exact(m, target)
    for bias in (0.0, -2.0, 3.0):
        torch.nn.init.constant_(baseline_of(m).bias, bias)
        found, _ = estimated(m, target)
        for name in wanted.keys() - {"attention.baseline.weight", "attention.baseline.bias"}:
            torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-4)  # log p is of float32
    assert wanted["attention.score.key.weight"].abs().max() > 1e-4  # it is the choices alone that need the score


def baseline_of(m: Recurrent) -> Any:
    return m.attention.get_submodule("baseline")


def test_the_baseline_learns_what_comes_on_average_and_makes_the_estimate_less_noisy() -> None:
    """It stands still at E[log p], is raised below it and lowered above; there draws differ less than without it."""
    m, target = model(input_feeding=True), [4]
    torch.nn.init.zeros_(baseline_of(m).weight)
    average = 0.0
    for position in range(3):
        decoded = run(m, target, (position,))
        assert decoded.choice is not None
        average += float((decoded.choice.exp().sum() * log_p(m, decoded, target).sum()).detach())
    pushed, spread = [], []
    for bias in (average, 0.0, 2 * average):
        torch.nn.init.constant_(baseline_of(m).bias, bias)
        mean, square = estimated(m, target)
        pushed.append(-mean["attention.baseline.bias"].item())  # a step is against the gradient
        spread.append(square)
    assert pushed == pytest.approx([0, average, -average], abs=1e-5)
    assert spread[0] < min(spread[1:])


def test_positions_are_drawn_by_their_probability() -> None:
    """60,000 draws of 0.5, 0.3, 0.2: the deviation of a share is 0.002 at most. NaN raises nothing here."""
    torch.manual_seed(1)
    hard = Hard(Dot(4), 4)
    p = torch.tensor([0.5, 0.3, 0.2])
    drawn = hard._drawn(p.log().expand(60, 1000, 3))
    torch.testing.assert_close(drawn.flatten().bincount() / 60_000, p, atol=0.01, rtol=0)
    assert hard._drawn(torch.full((1, 1, 3), float("nan"))).shape == (1, 1)

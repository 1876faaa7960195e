"""Local attention against Luong's local-p, one query and one source position at a time."""

import math

import pytest
import torch
from torch import Tensor

from transformer_mt.model.attention import KeyValue
from transformer_mt.model.local_attention import Local
from transformer_mt.model.masks import attention_bias
from transformer_mt.model.scores import General, make_score

D = 6


def local(score: str, radius: int) -> Local:
    torch.manual_seed(radius)
    return Local(make_score(score, D), D, radius)


def centre(mix: Local, q: Tensor, length: int) -> Tensor:
    """p = S · sigmoid(vᵀ tanh(W q))."""
    return length * torch.sigmoid(mix.centre.weight[0].dot(torch.tanh(mix.hidden.weight.mv(q))))


def weights_of(mix: Local, q: Tensor, keys: Tensor, length: int, radius: int) -> list[Tensor]:
    """The weight of each source position for one query; a key that is padding or outside the window has none."""
    p = centre(mix, q, length)
    near = [s for s in range(length) if abs(s - p.item()) <= radius]
    exps = {s: q.dot(keys[s]).exp() for s in near}
    total = torch.stack(list(exps.values())).sum()
    sigma = radius / 2
    gauss = {s: torch.exp(-((s - p) ** 2) / (2 * sigma**2)) for s in near}
    return [exps[s] / total * gauss[s] if s in near else torch.zeros(()) for s in range(len(keys))]


@pytest.mark.parametrize("radius", [1, 2, 3, 20])
def test_equals_the_formula(radius: int) -> None:
    """A window that cuts and one that sees all; the second sentence has padding. Gradients too."""
    mix = local("general", radius)
    query, source = torch.randn(2, 5, D, requires_grad=True), torch.randn(2, 11, D, requires_grad=True)
    lengths = (11, 4)
    real = torch.arange(11) < torch.tensor(lengths)[:, None]
    output, weights = mix(query, KeyValue(mix.prepare(source), source), attention_bias(real[:, None]))
    score = mix.score
    assert isinstance(score, General)
    keys = source @ score.key.weight.T
    wanted = torch.stack(
        [
            torch.stack([torch.stack(weights_of(mix, q, keys[b], lengths[b], radius)) for q in query[b]])
            for b in range(2)
        ]
    )
    torch.testing.assert_close(weights, wanted)
    torch.testing.assert_close(output, wanted @ source)
    leaves, up = [query, source, *mix.parameters()], torch.randn_like(output)
    ours, theirs = torch.autograd.grad(output, leaves, up), torch.autograd.grad(wanted @ source, leaves, up)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sharp", [-1.0, 1.0])
@pytest.mark.parametrize("length", [1, 7])
def test_a_centre_at_either_end_sees_something(sharp: float, length: int) -> None:
    """With weights so great that sigmoid is 0 or 1: p is 0 or S, one beyond the last position."""
    mix = local("dot", 1)
    with torch.no_grad():
        mix.hidden.weight.copy_(torch.eye(D))
        mix.centre.weight.fill_(1e4 * sharp)
    query, source = torch.ones(1, 1, D), torch.randn(1, length, D)
    bias = torch.zeros(1, 1, length)
    _, weights = mix(query, KeyValue(source, source), bias)
    seen = weights[0, 0]
    assert seen.isfinite().all()
    if sharp > 0:  # S - 1 is at a distance of 1 = 2σ, and the only one in the window
        assert seen.tolist() == pytest.approx([0.0] * (length - 1) + [math.exp(-2)])
    else:
        first = torch.softmax(source[0, :2] @ torch.ones(D), 0) * torch.tensor([1.0, math.exp(-2)])[:length]
        assert seen.tolist() == pytest.approx([*first.tolist(), *[0.0] * (length - 2)])

"""Positions against the paper's formulas."""

import math

import pytest
import torch

from transformer_mt.model.positions import Rotary, Sinusoidal, sinusoids


@pytest.mark.parametrize(("pos", "i"), [(0, 0), (1, 0), (3, 2), (250, 6)])
def test_sinusoids_follow_vaswani(pos: int, i: int) -> None:
    table, angle = sinusoids(251, 14), pos / 10000 ** (2 * i / 14)
    assert table[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=2e-5)
    assert table[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=2e-5)


def test_the_table_grows_with_the_sentence() -> None:
    positions = Sinusoidal(6)
    x = torch.zeros(1, 700, 6)
    torch.testing.assert_close(positions(x)[0], sinusoids(700, 6))
    torch.testing.assert_close(positions(x[:, :1], start=699)[0, 0], sinusoids(700, 6)[699])


def test_rotary_turns_pairs_by_position_times_frequency() -> None:
    rotary = Rotary(2)  # one pair, frequency 1: position p turns by p radians
    x = torch.tensor([[[[1.0, 0.0]] * 3]])
    expected = [[math.cos(p), math.sin(p)] for p in range(3)]
    torch.testing.assert_close(rotary(x)[0, 0], torch.tensor(expected))


def test_rotary_products_depend_on_distance_only() -> None:
    rotary = Rotary(10).double()
    q, k = torch.randn(2, 1, 1, 1, 10).double()
    products = [(rotary(q, start + 5) * rotary(k, start)).sum() for start in (0, 11, 1000)]
    torch.testing.assert_close(products[0], products[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(products[0], products[2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [10])
def test_a_table_that_decoding_made_longer_serves_training(width: int) -> None:
    """A tensor born in inference mode could not be saved for the gradient."""
    rotary, x = Rotary(width), torch.ones(1, 1, 600, width, requires_grad=True)
    with torch.inference_mode():
        rotary(x.detach())
    rotary(x).sum().backward()
    assert x.grad is not None

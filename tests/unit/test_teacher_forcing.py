"""How often the target's token is read: values by hand, and how often it is drawn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.config import TeacherForcing
from transformer_mt.training.teacher_forcing import own_places, teacher_ratio


def settings(**values: object) -> TeacherForcing:
    return TeacherForcing.model_validate(values)


@pytest.mark.parametrize(
    ("decay", "ratio", "at"),
    [
        ("none", 1.0, {0: 1.0, 100: 1.0, 10**6: 1.0}),
        ("none", 0.5, {0: 0.5, 100: 0.5, 10**6: 0.5}),
        ("linear", 1.0, {0: 1.0, 50: 0.75, 100: 0.5, 150: 0.25, 200: 0.0, 300: 0.0}),
        ("linear", 0.8, {0: 0.8, 100: 0.4}),
        ("exponential", 1.0, {0: 1.0, 50: 0.5**0.5, 100: 0.5, 200: 0.25, 300: 0.125}),
        ("exponential", 0.8, {0: 0.8, 100: 0.4}),
        # k ln k = 100 has k = 29.5366: k / (k + 1) at first, 1 / (1 + k) of it at twice the half
        ("inverse_sigmoid", 1.0, {0: 29.5366 / 30.5366, 100: 0.5, 200: 1 / 30.5366, 10**6: 0.0}),
        ("inverse_sigmoid", 0.8, {0: 0.8 * 29.5366 / 30.5366, 100: 0.4}),
    ],
)
def test_by_hand(decay: str, ratio: float, at: dict[int, float]) -> None:
    wanted = settings(decay=decay, ratio=ratio, half=100)
    for step, value in at.items():
        assert teacher_ratio(step, wanted) == pytest.approx(value, abs=1e-5), step


@given(
    decay=st.sampled_from(["none", "linear", "exponential", "inverse_sigmoid"]),
    ratio=st.floats(0, 1),
    half=st.integers(1, 10**7),
    least=st.floats(0, 1),
    steps=st.lists(st.integers(0, 10**8), min_size=2, max_size=6).map(sorted),
)
def test_it_never_rises_and_stays_a_probability(
    decay: str, ratio: float, half: int, least: float, steps: list[int]
) -> None:
    chosen = settings(decay=decay, ratio=ratio, half=half, least=least)
    values = [teacher_ratio(step, chosen) for step in steps]
    assert values == sorted(values, reverse=True)
    assert all(least <= value <= max(ratio, least) for value in values)
    if decay != "none":
        assert teacher_ratio(half, chosen) == pytest.approx(max(least, ratio / 2), abs=1e-9)


def test_places_are_drawn_as_often_as_the_ratio_says() -> None:
    """100,000 draws: a deviation of 0.0014 around the share."""
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    for ratio in (0.2, 0.5, 0.9):
        own = own_places(torch.Size((250, 400)), ratio, cpu)
        assert own is not None
        assert own.dtype == torch.bool
        assert own.float().mean().item() == pytest.approx(1 - ratio, abs=0.006)
        assert own.float().mean(0).std().item() == pytest.approx((ratio * (1 - ratio) / 250) ** 0.5, rel=0.2)
    nowhere, everywhere = (own_places(torch.Size((3, 5)), ratio, cpu) for ratio in (1.0, 0.0))
    assert nowhere is None
    assert everywhere is not None
    assert everywhere.all()

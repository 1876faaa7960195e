"""Schedules against their formulas, by hand."""

import pytest

from transformer_mt.config import Training
from transformer_mt.training.schedule import fitting_warmup, learning_rate, noam


def test_noam_by_hand() -> None:
    # D = 512, warmup 4000: 512^-½ = 0.0441942; step 1: 4000^-1.5 = 3.95285e-6; step 4000: 4000^-½ = 0.0158114
    assert noam(1, 512, 4000) == pytest.approx(1.746928e-07, rel=1e-5)
    assert noam(4000, 512, 4000) == pytest.approx(6.987712e-04, rel=1e-5)
    assert noam(16000, 512, 4000) == pytest.approx(3.493856e-04, rel=1e-5)
    assert noam(100, 512, 4000, factor=2) == pytest.approx(3.493856e-05, rel=1e-5)


@pytest.mark.parametrize("schedule", ["noam", "inverse_sqrt", "linear", "constant"])
def test_all_rise_linearly_to_the_peak(schedule: str) -> None:
    settings = Training.model_validate(
        {"schedule": schedule, "learning_rate": 2e-3, "warmup_steps": 400, "max_steps": 1000}
    )
    for step in (1, 100, 400):
        assert learning_rate(step, settings, 128) == pytest.approx(2e-3 * step / 400)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [("noam", 1e-3), ("inverse_sqrt", 1e-3), ("linear", 0.0), ("constant", 2e-3)],
)
def test_and_fall_as_named(schedule: str, rate: float) -> None:
    settings = Training.model_validate(
        {"schedule": schedule, "learning_rate": 2e-3, "warmup_steps": 400, "max_steps": 1600}
    )
    assert learning_rate(1600, settings, 128) == pytest.approx(rate)


def test_linear_is_half_way_down_in_the_middle() -> None:
    settings = Training(schedule="linear", learning_rate=4e-3, warmup_steps=100, max_steps=300)
    assert learning_rate(200, settings, 64) == pytest.approx(2e-3)


def test_without_a_peak_noam_has_its_own_scale() -> None:
    settings = Training(warmup_steps=4000)
    assert learning_rate(16000, settings, 512) == pytest.approx(3.493856e-04, rel=1e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(2_000, None), (1_999, 199), (320, 32), (4, 1)])
def test_a_warm_up_fits_into_half_of_the_run_or_else_a_tenth_is_advised(steps: int, warmup: int | None) -> None:
    assert fitting_warmup(steps, Training(warmup_steps=1_000)) == warmup

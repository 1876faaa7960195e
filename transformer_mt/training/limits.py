"""When a run ends, and how long that will take."""

import sys
from dataclasses import dataclass
from typing import Any

from transformer_mt.config import Training
from transformer_mt.training.schedule import fitting_warmup


class Pace:
    """Seconds a step, a mean that forgets slowly, but at once what the first steps took to get going."""

    def __init__(self) -> None:
        self.seconds, self._notes = 0.0, 0

    def note(self, steps: int, seconds: float) -> None:
        """So many more steps have taken so long."""
        self._notes += 1
        new = 1.0 if self._notes < 4 else 0.1
        self.seconds += new * (seconds / steps - self.seconds)


@dataclass(frozen=True)
class Limits:
    """The limits of a run, the first of which ends it."""

    settings: Training

    def as_json(self) -> dict[str, Any]:
        """Under which a run has ended: with others it may go on."""
        return {key: getattr(self.settings, key) for key in ("max_steps", "max_epochs", "max_minutes", "patience")}

    def reason_to_end(self, step: int, epoch: int, stale: int, *, time_is_up: bool) -> str | None:
        """The limit that is reached after ``epoch`` whole epochs and ``stale`` validations that were no better."""
        limits = self.settings
        if limits.max_steps is not None and step >= limits.max_steps:
            return f"max_steps {limits.max_steps}"
        if limits.max_epochs is not None and epoch >= limits.max_epochs:
            return f"max_epochs {limits.max_epochs}"
        if limits.max_minutes is not None and time_is_up:
            return f"max_minutes {limits.max_minutes:g}"
        if limits.patience is not None and stale >= limits.patience:
            return f"patience: {stale} validations without a better {limits.best_by}"
        return None

    def closing_seconds(self, validation: float) -> float:
        """What the end of the run will take: validations of the last step and of the average, and saving."""
        return (2.2 if self.settings.average else 1.1) * validation + 2.0

    def seconds_left(
        self, step: int, steps_of_epochs: int | None, elapsed: float, pace: Pace, validation: float
    ) -> float | None:
        """The time to the first limit at today's pace, validations included; None when only patience ends the run.

        ``steps_of_epochs`` are those to the end of the last epoch.
        """
        limits, left = self.settings, list[float]()
        step_seconds = pace.seconds + validation / limits.validate_every
        if limits.max_steps is not None:
            left.append((limits.max_steps - step) * step_seconds + self.closing_seconds(validation))
        if steps_of_epochs is not None:
            left.append(steps_of_epochs * step_seconds + self.closing_seconds(validation))
        if limits.max_minutes is not None:
            left.append(60 * limits.max_minutes - elapsed)
        return max(0.0, min(left)) if left else None

    def warmup_that_fits(self, step: int, elapsed: float, pace: Pace) -> tuple[int, int] | None:
        """The steps that fit into a run which ends before the learning rate is up, and a warm-up for them."""
        limits = self.settings
        fitting = limits.max_steps or sys.maxsize
        if limits.max_minutes is not None:
            fitting = min(fitting, step + int((60 * limits.max_minutes - elapsed) / pace.seconds))
        warmup = fitting_warmup(fitting, limits)
        return None if warmup is None else (fitting, warmup)

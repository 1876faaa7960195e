"""The learning rate as a pure function of the step, which counts from 1."""

from transformer_mt.config import Training


def noam(step: int, width: int, warmup: int, factor: float = 1.0) -> float:
    """lr(step) = factor · D^-1/2 · min(step^-1/2, step · warmup^-3/2) (Vaswani et al. 2017, equation 3)."""
    return float(factor * width**-0.5 * min(step**-0.5, step * warmup**-1.5))


def learning_rate(step: int, settings: Training, width: int) -> float:
    """The rate at ``step`` under the configured schedule.

    All rise linearly for ``warmup_steps`` to the peak, ``learning_rate`` (left out: Noam's D^-1/2 · warmup^-1/2); then
    ``noam`` and ``inverse_sqrt`` fall with step^-1/2, ``linear`` to zero at ``max_steps``, ``constant`` not at all.
    ``noam`` with a peak is Noam with the factor that reaches it, and so the same curve as ``inverse_sqrt``.
    """
    warmup = settings.warmup_steps
    top = noam(warmup, width, warmup)
    peak = settings.learning_rate or top
    if step < warmup:
        return peak * step / warmup
    match settings.schedule:
        case "noam":
            return noam(step, width, warmup, peak / top)
        case "inverse_sqrt":
            return float(peak * (warmup / step) ** 0.5)
        case "linear":
            last = settings.max_steps or step
            return peak * max(0.0, (last - step) / max(1, last - warmup))
    return peak


def fitting_warmup(steps: int, settings: Training) -> int | None:
    """A warm-up for a run of so many steps, a tenth, where the rate would rise for half of them; None where it fits."""
    return max(1, steps // 10) if steps < 2 * settings.warmup_steps else None

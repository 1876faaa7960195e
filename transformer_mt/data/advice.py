"""Values that suit a corpus: a start to improve on, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer_mt.data.tokenizer import default_vocab_size

_PASSES = 50  # over the text, with which small corpora are learnt
_LEAST_STEPS = 2_000
_PAPER_STEPS = 100_000  # Vaswani et al. 2017
_CPU_SPEED = 6_000  # target tokens a second that the tiny model learns on two cores: an order of magnitude
_MINUTES = (10, 20, 30, 60, 120, 240, 480, 720, 1440)
_INTERVALS = (100, 200, 500, 1000, 2000)
_GPU_SPEED = 60_000  # and the small one on a GPU
_WARM_UPS = (20, 50, 100, 200, 500, 1000, 2000, 4000)


@dataclass(frozen=True)
class Advice:
    """Values of a configuration, and ``why``, by their dotted key, in a line each."""

    vocab_size: int
    size: str
    dropout: float
    batch_tokens: int  # and, on a GPU, device_tokens
    warmup_steps: int
    learning_rate: float
    max_minutes: int | None  # this,
    max_steps: int | None  #   or this on a GPU, if minutes were not asked for
    validate_every: int
    passes: float  # over the text, that fit
    why: dict[str, str]


def advise(pairs: int, target_tokens: float, *, gpu: bool, minutes: int | None = None) -> Advice:
    """Advise on a corpus of so many pairs, with ``target_tokens`` pieces in a target line on average.

    ``minutes`` is what training may take; left out, it is what the text needs.
    """
    size, dropout, why_size, why_dropout = _model(pairs, gpu=gpu)
    batch_tokens, most_warm_up, rate, why_rate = _updates(pairs, size)
    epoch = max(1.0, pairs * target_tokens / batch_tokens)  # steps
    wanted = min(max(_PASSES * epoch, _LEAST_STEPS), 3 * _PAPER_STEPS if size == "big" else _PAPER_STEPS)
    if gpu and minutes is None:
        steps: float = round(wanted, -3)
        limit, why_limit = "max_steps", f"about {steps / epoch:,.0f} passes over the text"
    else:
        minutes = minutes or _at_least(_MINUTES, 0.8 * wanted * batch_tokens / _CPU_SPEED / 60)
        speed, where = (_GPU_SPEED, "a GPU") if gpu else (_CPU_SPEED, "two cores")
        steps = minutes * 60 * speed / batch_tokens
        few = ", and tens are needed" if steps / epoch < 20 else ""
        limit, why_limit = "max_minutes", f"roughly {_rounded(steps / epoch)} passes over the text, on {where}{few}"
    warm_up = max(value for value in _WARM_UPS if value <= max(_WARM_UPS[0], min(most_warm_up, steps / 10)))
    why = {
        "tokenizer.vocab_size": f"subwords, as many as {pairs:,} pairs can teach (Gowda and May 2020)",
        "model.size": why_size,
        "model.dropout": why_dropout,
        "training.batch_tokens": "target tokens of one update" if batch_tokens == 4096 else _why_batch(batch_tokens),
        "training.warmup_steps": "the rate rises for a tenth of the steps at most, then falls (Vaswani et al. 2017)",
        "training.learning_rate": why_rate,
        f"training.{limit}": why_limit,
    }
    return Advice(
        vocab_size=default_vocab_size(pairs),
        size=size,
        dropout=dropout,
        batch_tokens=batch_tokens,
        warmup_steps=warm_up,
        learning_rate=rate,
        max_minutes=minutes,
        max_steps=int(steps) if minutes is None else None,
        validate_every=_at_least(_INTERVALS[: 5 if gpu else 4], steps / 25),
        passes=steps / epoch,
        why=why,
    )


def _model(pairs: int, *, gpu: bool) -> tuple[str, float, str, str]:
    """Size and dropout, and why."""
    regular = "the less text, the more (Sennrich and Zhang 2019; Araabi and Monz 2020)"
    if not gpu or pairs < 100_000:
        dropout = 0.3 if pairs < 20_000 else 0.2 if pairs < 100_000 else 0.1
        reason = (
            "little text wants a small model (Wu et al. 2021)"
            if pairs < 100_000
            else "what a CPU can train; on a GPU, more"
        )
        return "tiny", dropout, reason, regular if pairs < 100_000 else "a small model on enough text needs little"
    if pairs < 1_000_000:
        few = pairs < 300_000
        return "small", 0.3 if few else 0.1, "the usual one for corpora like IWSLT's", regular if few else "enough text"
    size = "base" if pairs < 10_000_000 else "big"
    return (
        size,
        0.1,
        f"'{size}' of Vaswani et al. 2017, for millions of pairs",
        "millions of pairs (Vaswani et al. 2017)",
    )


def _updates(pairs: int, size: str) -> tuple[int, int, float, str]:
    """Tokens a batch, the most warm-up steps, the peak of the learning rate, and why that."""
    if size == "tiny":
        return 1024 if pairs < 10_000 else 4096, 1000, 3e-3, "the peak; small models bear a high one"
    scale = {"small": 7e-4, "base": 7e-4, "big": 5e-4}[size]  # width^-1/2 · 4000^-1/2
    return 4096 if size == "small" else 25_000, 4000, scale, "the peak, as in Vaswani et al. 2017"


def _why_batch(batch_tokens: int) -> str:
    return "small updates, for little text" if batch_tokens < 4096 else "as in Vaswani et al. 2017"


def _at_least(values: Sequence[int], wanted: float) -> int:
    """The least of rising values that suffices, or the last."""
    return next((value for value in values if value >= wanted), values[-1])


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number < 20 else f"{round(number, -1):,.0f}"

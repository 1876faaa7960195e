"""What training tells: ``metrics.jsonl`` for programs, a live line and a few plain ones for people."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from transformer_mt.errors import ConfigError, system_fault
from transformer_mt.rundir import write_atomically
from transformer_mt.terminal import LiveLine, is_terminal, say

_PLAIN_SECONDS = 15.0  # between log lines where there is no terminal
_SAMPLE_CHARACTERS = 160


@dataclass(frozen=True)
class Validation:
    """A validation: mean negative log-likelihood in nats, BLEU, and (source, translation, reference) samples."""

    nll: float
    bleu: float
    signature: str
    samples: list[tuple[str, str, str]]
    sets: dict[str, dict[str, float]] = field(default_factory=dict)  # nll and BLEU by name, where there are several


def duration(seconds: float) -> str:
    """Seconds as people read them: 42s, 3m05s, 2h14m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _cut(text: str) -> str:
    """A sample short enough to look at: an untrained model repeats itself without end."""
    return text if len(text) <= _SAMPLE_CHARACTERS else text[: _SAMPLE_CHARACTERS - 1] + "…"


def perplexity(nll: float) -> float:
    """e^nll."""
    return math.exp(min(nll, 700))


class Metrics:
    """Writes the metrics file, the terminal and, in a folder given, the curves of TensorBoard."""

    def __init__(
        self, path: Path, step: int = 0, tensorboard: Path | None = None, guard: Callable[[], None] = lambda: None
    ) -> None:
        """Continue the file at ``path`` after ``step``: lines of later steps, of a run that was lost, are dropped.

        ``guard`` raises SystemFault where the file is no longer ours. Raises ConfigError when TensorBoard is asked for
        and not installed.
        """
        self._curves = None if tensorboard is None else summary_writer()(str(tensorboard), purge_step=step + 1)
        self._path, self._live, self._printed, self._guard = path, LiveLine(), 0.0, guard
        self._begin([line for line in _lines(path) if _step(line) <= step] if step else [])

    def _begin(self, lines: list[str]) -> None:
        self._guard()
        write_atomically(self._path, "".join(lines))
        self._count = len(lines)

    def keep(self, count: int | None) -> None:
        """Drop all but the first ``count`` lines: others of the same step come again."""
        if count is not None and count < self._count:
            self._begin(_lines(self._path)[:count])

    def flush(self) -> int:
        """Bring the file to the disk; return how many lines it has."""
        with self._opened() as file:
            os.fsync(file.fileno())
        return self._count

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        """The file, to add to its end. Raises SystemFault."""
        self._guard()
        try:
            with self._path.open("a", encoding="utf-8") as file:
                yield file
        except OSError as error:
            raise system_fault(error, self._path) from error

    def _write(self, event: Mapping[str, Any]) -> None:
        with self._opened() as file:
            file.write(json.dumps(event) + "\n")
        self._count += 1

    def _draw(self, group: str, values: Mapping[str, Any], step: int) -> None:
        if self._curves is not None:
            for name, value in values.items():
                self._curves.add_scalar(f"{group}/{name}", value, step)

    def train(self, event: dict[str, Any], seconds_left: float | None) -> None:
        """One logged training step."""
        self._write({"event": "train", **event})
        self._draw("train", {name: value for name, value in event.items() if name != "step"}, event["step"])
        line = (
            f"step {event['step']:,}  epoch {event['epoch']}  loss {event['loss']:.3f}  "
            f"ppl {perplexity(event['nll']):,.2f}  lr {event['learning_rate']:.2e}  "
            f"{event['target_tokens_per_second']:,.0f} tok/s"
        )
        if seconds_left is not None:
            line += f"  ETA {duration(seconds_left)}"
        self._live.show(line)
        if not is_terminal() and time.monotonic() - self._printed >= _PLAIN_SECONDS:
            self._printed = time.monotonic()
            say(line)

    def valid(self, step: int, validation: Validation, *, best: bool, name: str | None = None) -> None:
        """One validation, with samples."""
        event = {"event": "valid", "step": step, "nll": validation.nll, "bleu": validation.bleu,
                 "signature": validation.signature}  # fmt: skip
        several = {"sets": validation.sets} if validation.sets else {}
        self._write(event | several | ({"checkpoint": name} if name else {}))
        self._draw("average" if name else "valid", {"nll": validation.nll, "bleu": validation.bleu}, step)
        self._live.clear()
        say(
            f"{name or f'step {step:,}'}  valid nll {validation.nll:.4f}  ppl {perplexity(validation.nll):.2f}  "
            f"BLEU {validation.bleu:.2f}{'  (best)' if best else '  (no better, not kept)' if name else ''}",
            style="bold",
        )
        for set_name, scores in validation.sets.items():
            say(f"  {set_name}  nll {scores['nll']:.4f}  BLEU {scores['bleu']:.2f}")
        for source, translation, reference in validation.samples if best or name is None else ():
            for mark, text, style in ((" ", source, "dim"), ("→", translation, ""), ("=", reference, "dim")):
                say(f"  {mark} {_cut(text)}", style=style)

    def note(self, line: str) -> None:
        """Say something between the lines."""
        self._live.clear()
        say(line)

    def close(self) -> None:
        """Take the live line away, and flush the curves."""
        self._live.clear()
        if self._curves is not None:
            self._curves.close()


class NoMetrics(Metrics):
    """Of a process that does not lead its group."""

    def __init__(self) -> None:
        pass

    def keep(self, count: int | None) -> None:
        """Leave it to the leader."""

    def train(self, event: Mapping[str, Any], seconds_left: float | None) -> None:
        """Leave it to the leader."""

    def valid(self, step: int, validation: Validation, *, best: bool, name: str | None = None) -> None:
        """Leave it to the leader."""

    def note(self, line: str) -> None:
        """Leave it to the leader."""

    def close(self) -> None:
        """Nothing is open."""


def summary_writer() -> Any:
    """TensorBoard's writer, which is an extra. Raises ConfigError when it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training.tensorboard: TensorBoard is not installed; pip install 'transformer_mt[tensorboard]'"
        ) from error
    return SummaryWriter


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []


def _step(line: str) -> float:
    """The step of a line; a damaged one (cut by a crash) is as good as from the future."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.inf

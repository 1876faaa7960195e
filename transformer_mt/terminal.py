"""What is shown on the terminal while work goes on: stderr only, calm, and plain when it is no terminal."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from transformer_mt.streams import Log

_STYLES = {"bold": 1, "dim": 2, "yellow": 33}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe\uffff]")


def is_terminal() -> bool:
    """Whether a person looks at stderr."""
    return sys.stderr.isatty() and not _muted


_muted = False


def mute(muted: bool) -> None:
    """Let :func:`say` and bars be quiet, or not: of several processes, one speaks. Warnings are heard all the same."""
    global _muted
    _muted = muted


def say(line: str, style: str = "") -> None:
    """Print a line to stderr, in a style on a terminal only; work goes on where that cannot be written."""
    if not _muted:
        _print(line, style)


def _print(line: str, style: str) -> None:
    if style and is_terminal():
        line = f"\x1b[{_STYLES[style]}m{line}\x1b[0m"
    print(line, file=Log(), flush=True)


def warn(line: str) -> None:
    """Print a warning to stderr."""
    _print(f"warning: {line}", style="yellow")


def visible(text: str) -> str:
    """Text that may stand beside other text: what would move the cursor, or turn the direction, becomes U+FFFD."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def percent(part: float, whole: float) -> str:
    """A share as people read it: 0.067 %, 4.2 %, 97 %."""
    share = 100 * part / max(1, whole)
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.0f} {task.fields['unit']}/s")


class Bar:
    """A progress bar; ``advance`` is all that work needs to know of it."""

    def __init__(self, progress: Progress | None, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int = 1) -> None:
        """Say that ``count`` more units are done."""
        if self._progress is not None:
            self._progress.advance(TaskID(self._task), count)

    def expect(self, total: int) -> None:
        """Say how many units there will be, once it is known."""
        if self._progress is not None:
            self._progress.update(TaskID(self._task), total=total)


@contextmanager
def bar(what: str, total: int | None, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show a bar with rate and time left on a terminal, nothing elsewhere; it goes when the work is done.

    ``done`` units were done before, and do not count in the rate.
    """
    if not is_terminal():
        yield Bar(None, 0)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    console = Console(file=Log())  # type: ignore[arg-type]
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task(what, total=total, completed=done, unit=unit))


class LiveLine:
    """One line at the bottom of the terminal that is rewritten in place; lines said meanwhile go above it."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, line: str) -> None:
        """Rewrite the live line; on anything but a terminal, do nothing."""
        if is_terminal():
            width = Console(stderr=True).width
            print("\r\x1b[K" + line[: width - 1], end="", file=Log(), flush=True)
            self._shown = True

    def clear(self) -> None:
        """Take the line away, so that others can be printed."""
        if self._shown:
            print("\r\x1b[K", end="", file=Log(), flush=True)
            self._shown = False

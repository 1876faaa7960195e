"""What is measured inside an engine's process: CPU and wall-clock seconds, tokens, peak memory."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

WARM_UP = 4  # updates before the window


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory before exec, too
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def finish(**result: Any) -> NoReturn:
    """Print the result as a line of JSON, the last on standard output, and end the process at once."""
    print(flush=True)
    print(json.dumps({**result, "peak_mb": peak_megabytes()}), flush=True)
    sys.stderr.flush()
    os._exit(0)  # an engine's own end would save a checkpoint


class Clock:
    """CPU seconds (user and system, all threads) and wall-clock seconds since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        """The seconds so far."""
        return {"cpu": time.process_time() - self._cpu, "wall": time.perf_counter() - self._wall}


class Window:
    """Counts updates after the warm-up until they have taken so many CPU seconds, and then ends the process."""

    def __init__(self, seconds: float, **about: Any) -> None:
        self._seconds, self._about = seconds, about
        self._updates, self._tokens, self._clock = 0, 0, Clock()

    def update(self, tokens: int) -> None:
        """An update of so many real target tokens is done, end tokens counted, begin tokens and padding not."""
        self._updates, self._tokens = self._updates + 1, self._tokens + tokens
        if self._updates == WARM_UP:
            self._tokens, self._clock = 0, Clock()
        elif self._updates > WARM_UP and (spent := self._clock.read())["cpu"] >= self._seconds:
            finish(tokens=self._tokens, updates=self._updates - WARM_UP, **spent, **self._about)


def decode(
    translate: Callable[[list[str]], tuple[list[str], list[int]]], sentences: list[str], batch: int, seconds: float
) -> NoReturn:
    """Translate all sentences, again and again until that has taken so many CPU seconds.

    ``translate`` gives texts, in order, and their lengths in pieces, in any order.
    """

    def once(lines: list[str]) -> tuple[list[str], list[int]]:
        if batch > 1:
            return translate(lines)
        results = [translate([line]) for line in lines]
        return [text for texts, _ in results for text in texts], [n for _, lengths in results for n in lengths]

    once(sentences[: 2 * batch])
    clock, lengths, texts = Clock(), list[int](), list[str]()
    while (spent := clock.read())["cpu"] < seconds:
        texts, some = once(sentences)
        lengths += some
    finish(tokens=sum(lengths), lengths=sorted(set(lengths)), texts=texts, **spent)

"""All cores: results in order, in bounded memory, and no process left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from operator import length_hint
from pathlib import Path

import pytest

from transformer_mt.data import parallel
from transformer_mt.data.parallel import in_order
from transformer_mt.errors import SystemFault

PATIENCE = 60  # seconds


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0)
    monkeypatch.setattr(parallel, "_cores", lambda: 2)


def uneven(number: int) -> tuple[int, int]:
    """The square, after a while, and the process that took it."""
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * number, os.getpid()


@pytest.mark.parametrize("count", [1, 2, 13])
def test_results_come_in_order_with_their_jobs(count: int) -> None:
    results = list(in_order(uneven, range(count)))
    assert [(job, square) for job, (square, _) in results] == [(n, n * n) for n in range(count)]
    processes = {process for _, (_, process) in results}
    assert len(processes) == min(2, count)
    assert os.getpid() not in processes


def test_few_jobs_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 3)
    monkeypatch.setattr(parallel, "_Worker", None)
    assert [result for _, result in in_order(str, range(3))] == ["0", "1", "2"]
    monkeypatch.setattr(parallel, "_cores", lambda: 1)
    assert [result for _, result in in_order(str, range(5))] == ["0", "1", "2", "3", "4"]


def test_jobs_are_read_only_as_they_can_be_done() -> None:
    left = iter(range(30))
    for number, _ in enumerate(in_order(str, left), start=1):
        assert 30 - length_hint(left) <= number + 3  # two at work, and one that is read


def test_an_error_in_a_worker_is_raised_here() -> None:
    results = in_order(int, ["1", "2", "x"])
    assert next(results) == ("1", 1)
    with pytest.raises(ValueError, match="invalid literal"):
        list(results)


def test_a_worker_that_is_killed_is_a_system_fault() -> None:
    with pytest.raises(SystemFault, match=r"process \d+: .* was killed"):
        list(in_order(signal.raise_signal, [signal.SIGKILL] * 5))


PROGRAM = """
import time
from multiprocessing import active_children
from transformer_mt.data import parallel
parallel.ALONE, parallel._cores = 0, lambda: 2
for _ in parallel.in_order(time.sleep, [0.05] * 10_000):
    print(*(child.pid for child in active_children()), flush=True)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_program(number: signal.Signals) -> None:
    pipe, command = subprocess.PIPE, [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, text=True, start_new_session=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(runs, workers))
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)  # as a terminal does: to all of them
        _, errors = process.communicate(timeout=PATIENCE)
    assert "SpawnProcess" not in errors  # workers say nothing
    end = time.monotonic() + PATIENCE
    while any(map(runs, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(runs, workers))


def runs(process: int) -> bool:
    """Whether a process is there and not merely waiting for its end to be noticed."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

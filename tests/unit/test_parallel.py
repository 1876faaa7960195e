"""All cores: results in order, in bounded memory, and no process left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import active_children
from operator import length_hint
from pathlib import Path
from types import SimpleNamespace

import pytest

from transformer_mt import parallel
from transformer_mt.errors import DataError, SystemFault
from transformer_mt.parallel import Pool, in_order

PATIENCE = 60  # seconds


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAYS", 0.0)
    monkeypatch.setattr(parallel, "cores", lambda: 2)


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


def test_short_work_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_Worker", None)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    assert [result for _, result in in_order(str, range(5))] == ["0", "1", "2", "3", "4"]
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    monkeypatch.setattr(parallel, "PAYS", 1000.0)
    assert [result for _, result in in_order(str, range(3))] == ["0", "1", "2"]


def test_others_are_started_once_work_has_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs of 5 s by a clock that the caller moves on, too, which does not count."""
    now = [0.0]
    monkeypatch.setattr(parallel, "PAYS", 8.0)
    monkeypatch.setattr(parallel, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def here(_: int) -> int:
        now[0] += 5.0
        return os.getpid()

    ours = []
    with Pool(process_of, 2) as pool:
        for _, process in pool.in_order(range(5), here):
            ours.append(process == os.getpid())
            now[0] += 5.0
    assert ours == [True, True, False, False, False]


def process_of(_: int) -> int:
    return os.getpid()


def test_jobs_are_read_only_as_they_can_be_done() -> None:
    left = iter(range(50))
    for number, _ in enumerate(in_order(str, left), start=1):
        assert 50 - length_hint(left) <= number + 2 * parallel._AHEAD


def test_a_slow_job_holds_up_none_of_the_others(tmp_path: Path) -> None:
    """While the first waits for one that is beyond what both have at once, the other process goes on."""
    results = in_order(partial(meet, tmp_path / "sign", 2 * parallel._ROOM), range(9))
    assert [number for _, number in results] == list(range(9))


def meet(sign: Path, last: int, number: int) -> int:
    """The number; of 0, once ``last`` has been done, too."""
    if number == last:
        sign.touch()
    end = time.monotonic() + PATIENCE
    while number == 0 and not sign.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return number


def test_jobs_and_results_larger_than_a_pipe_pass_each_other() -> None:
    jobs = [bytes([n]) * 3_000_000 for n in range(8)]
    assert [result for _, result in in_order(bytes.swapcase, jobs)] == [job.swapcase() for job in jobs]


def test_errors_come_after_the_results_in_front_of_them() -> None:
    """Those of the work as those of the text."""
    results = in_order(int, ["1", "2", "x"])
    assert [next(results), next(results)] == [("1", 1), ("2", 2)]
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)

    def faulty() -> Iterator[str]:
        yield from ["1", "2"]
        raise DataError("text:3: not UTF-8; convert it")

    results = in_order(int, faulty())
    assert [next(results), next(results)] == [("1", 1), ("2", 2)]
    with pytest.raises(DataError, match="text:3"):
        next(results)


def test_a_worker_that_is_killed_is_a_system_fault() -> None:
    with pytest.raises(SystemFault, match=r"process \d+: .* was killed"):
        list(in_order(signal.raise_signal, [signal.SIGKILL] * 5))


def test_a_pool_keeps_its_processes_for_more_jobs_unless_some_are_not_wanted() -> None:
    with Pool(uneven, 2) as pool:
        processes = [{process for _, (_, process) in pool.in_order(range(9))} for _ in range(2)]
        assert processes[0] == processes[1]
        for _ in zip(range(3), pool.in_order(range(9)), strict=False):
            pass
        found = list(pool.in_order(range(9)))
        assert [square for _, (square, _) in found] == [n * n for n in range(9)]
        assert processes[0].isdisjoint(process for _, (_, process) in found)
        assert len(active_children()) == 2
    assert not active_children()


def test_where_not_all_can_be_started_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a limit of processes; else the program would wait for it for ever."""
    start, started = parallel._Worker, list[parallel._Worker]()

    def limited() -> parallel._Worker:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(start())
        return started[0]

    monkeypatch.setattr(parallel, "_Worker", limited)
    with pytest.raises(BlockingIOError):
        list(in_order(str, range(9)))
    assert started[0].process.exitcode == -signal.SIGKILL
    assert not active_children()


PROGRAM = """
import time
from multiprocessing import active_children
from transformer_mt import parallel
parallel.PAYS, parallel.cores = 0.0, lambda: 2
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

"""``mt translate`` with several processes: whatever ends it ends all of them, with a code, at once and quietly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, wait_for, workers, write_lines

PROGRAM = """
from transformer_mt import __main__ as mt, parallel, workers
workers.processes = lambda: 2
parallel.PAYS = 0.0  # seconds
mt.main()
"""

Begin = Callable[..., "subprocess.Popen[bytes]"]


def lives(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return False


@pytest.fixture
def begin(tiny_run: Path, tmp_path: Path, start_session: Begin) -> Begin:
    """Start translating a long file; return once there are two workers."""
    file = write_lines(tmp_path / "in", ["ar mako kist", "os suda", "el bilu balm"] * 10_000)

    def start(*options: object) -> subprocess.Popen[bytes]:
        process = start_session([sys.executable, "-c", PROGRAM, "translate", tiny_run, file, *options])
        wait_for(lambda: len(workers(process)) == 2, process)
        return process

    return start


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_ends_all(begin: Begin, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = begin("--output", tmp_path / "out")
    ours = workers(process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, b"")
    assert err.startswith(b"error: ") and err.count(b"\n") == 1
    assert not any(map(lives, ours))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_killed_worker_is_an_error_of_the_system(begin: Begin, tmp_path: Path) -> None:
    process = begin("--output", tmp_path / "out")
    os.kill(workers(process)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (6, b"")
    assert re.fullmatch(rb"error: process \d+: .* killed, .*; free some .*\n", err)


def test_a_reader_who_has_enough_ends_all_quietly(begin: Begin) -> None:
    process = begin()
    ours = workers(process)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 0
    assert not any(map(lives, ours))


def test_a_worker_does_not_outlive_a_kill(begin: Begin, tmp_path: Path) -> None:
    process = begin("--output", tmp_path / "out")
    ours = workers(process)
    process.kill()
    wait_for(lambda: not any(map(lives, ours)))
    assert process.communicate(timeout=PATIENCE)[0] == b""  # Python itself may tell of a worker that was just starting

"""``mt translate`` with several processes: whatever ends it ends all of them, with a code, at once and quietly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import write_lines

PATIENCE = 60.0  # seconds
PROGRAM = """
from transformer_mt import cli, parallel, workers
workers.processes = lambda: 2
parallel.PAYS = 0.0  # seconds
cli.main()
"""

Begin = Callable[..., "subprocess.Popen[bytes]"]


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that translate beside it; what else it has started, for :mod:`multiprocessing`, left out."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def lives(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return False


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def begin(tiny_run: Path, tmp_path: Path) -> Iterator[Begin]:
    """Start translating a long file, in a process group of its own; return once there are two workers."""
    file = write_lines(tmp_path / "in", ["ar mako kist", "os suda", "el bilu balm"] * 10_000)
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, "translate", str(tiny_run), str(file), *map(str, options)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True)
        started.append(process)
        wait_for(lambda: process.poll() is not None or len(children(process)) == 2)
        assert process.poll() is None
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_ends_all(begin: Begin, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = begin("--output", tmp_path / "out")
    workers = children(process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, b"")
    assert err.startswith(b"error: ") and err.count(b"\n") == 1
    assert not any(map(lives, workers))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_killed_worker_is_an_error_of_the_system(begin: Begin, tmp_path: Path) -> None:
    process = begin("--output", tmp_path / "out")
    os.kill(children(process)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (6, b"")
    assert re.fullmatch(rb"error: process \d+: .* killed, .*; free some .*\n", err)


def test_a_reader_who_has_enough_ends_all_quietly(begin: Begin) -> None:
    process = begin()
    workers = children(process)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 0
    assert not any(map(lives, workers))


def test_a_worker_does_not_outlive_a_kill(begin: Begin, tmp_path: Path) -> None:
    process = begin("--output", tmp_path / "out")
    workers = children(process)
    process.kill()
    wait_for(lambda: not any(map(lives, workers)))
    assert process.communicate(timeout=PATIENCE) == (b"", b"")

"""One run, one writer: real processes that want the same directory, and directories that are not to be touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, Mt, failed, hashes, wait_for
from transformer_mt.errors import SystemFault
from transformer_mt.rundir import RunDirectory

Start = Callable[..., "subprocess.Popen[bytes]"]


def begun(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process trains."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"training "):
            return
    raise AssertionError(process.wait())


def test_two_trainings_of_one_run(mt: Mt, start_mt: Start, toy_config: Callable[..., Path], tmp_path: Path) -> None:
    """The second is refused and told whose the run is; when that one is killed, the third goes on at once."""
    config, run = toy_config(training={"max_steps": 1_000_000, "save_every": 5, "validate_every": 1_000_000}), "run"
    first = start_mt("train", config)
    begun(first)
    os.kill(first.pid, signal.SIGSTOP)  # so that nothing changes but by the second
    try:
        before = hashes(tmp_path / run)
        for command in (["train", config, "--resume"], ["train", config, "--overwrite"], ["tokenize", config]):
            failed(mt(*command), 6, str(tmp_path / run), f"in use by process {first.pid}; wait for it or stop it")
        assert hashes(tmp_path / run) == before
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.kill()
    first.wait()
    assert (tmp_path / run / "lock").read_text() == f"{first.pid}\n"  # it is stale
    result = mt("train", config, "--resume", "--set", "training.max_steps=1")
    assert result.code == 0, result


@pytest.mark.parametrize("fate", ["replaced", "deleted"])
def test_a_training_that_has_lost_its_directory_writes_nothing_to_its_path(
    start_mt: Start, toy_config: Callable[..., Path], tiny_run: Path, tmp_path: Path, fate: str
) -> None:
    """Another run has the name by now, or nobody: the first training may neither save, prune and point, nor tell."""
    run, training = tmp_path / "run", {"max_steps": 1_000_000, "validate_every": 1_000_000, "save_every": 1_000_000}
    process = start_mt("train", toy_config(training={**training, "log_every": 20}))
    wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text(), process)
    process.send_signal(signal.SIGSTOP)
    run.rename(tmp_path / "moved")
    if fate == "replaced":
        shutil.copytree(tiny_run, run)
    else:
        shutil.rmtree(tmp_path / "moved")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors.count(b"error: ")) == (6, 1), errors
    assert f"error: {run}: was moved, replaced or deleted while in use" in errors.decode()
    assert hashes(run) == (hashes(tiny_run) if fate == "replaced" else {})
    assert run.exists() == (fate == "replaced")


def test_a_training_that_was_faster_is_not_gone_on_with(
    mt: Mt, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two start in an empty directory at the same moment, and one has trained before the other has the lock."""
    run, lock = tmp_path / "run", RunDirectory.lock
    config = shutil.copy(tiny_run / "config.yaml", tmp_path / "toy.yaml")

    def late(self: RunDirectory) -> AbstractContextManager[None]:
        shutil.copytree(tiny_run, run, dirs_exist_ok=True)
        return lock(self)

    monkeypatch.setattr(RunDirectory, "lock", late)
    settings = ("--set", f"run_dir={run}", "--set", "training.learning_rate=0.002")
    failed(mt("train", config, *settings), 2, "already holds a run; --resume goes on with it, --overwrite starts anew")
    assert {**hashes(run), "lock": ""} == {**hashes(tiny_run), "lock": ""}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\n" * 100, b"x; y\n"])
def test_whatever_a_held_lock_holds_the_refusal_is_clear(tmp_path: Path, content: bytes) -> None:
    """It is empty for a moment when it is taken, and may be damaged."""
    directory = RunDirectory(tmp_path)
    with directory.lock():
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(SystemFault, match="in use by process unknown; wait for it or stop it"), directory.lock():
            raise AssertionError


@pytest.mark.parametrize("content", [b"999999999\n", b"\xff\xfe", b"1\n"])
def test_a_stale_lock_is_taken_whatever_it_holds(tmp_path: Path, content: bytes) -> None:
    """What counts is the kernel's lock, which dies with its process; a number may be another process's by now."""
    (tmp_path / "lock").write_bytes(content)
    with RunDirectory(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("command", [["train"], ["train", "--resume"], ["train", "--overwrite"], ["tokenize"]])
def test_a_directory_of_somebody_else_is_not_touched(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path, command: list[str]
) -> None:
    config, run = toy_config(), tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "thesis.tex").write_text("mine")
    before = hashes(run)
    failed(mt(*command, config), 2, f"{run}: not empty, and not a run")
    assert hashes(run) == before


def test_a_run_without_a_flag_is_not_touched(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = hashes(run)
    failed(mt("train", run), 2, "already holds a run; --resume goes on with it, --overwrite starts anew")
    assert hashes(run) == before

"""Checkpoints that were half written, half deleted or lost their names: nothing that is whole is lost.

A kill is a real one, and so are the states that it leaves.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.conftest import Mt, failed, hashes
from transformer_mt.checkpoint import MANIFEST, Checkpoints
from transformer_mt.errors import ArtefactError
from transformer_mt.rundir import write_atomically

RESUME = ("--resume", "--set", "training.max_steps=70")
KILLS = 30


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run of 60 steps, saved every 20, to be damaged."""
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture(scope="module")
def onward(tiny_run: Path, mt: Mt, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What 70 steps in one go end with."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("onward") / "run")
    assert mt("train", run, *RESUME).code == 0
    return tensors(run)


def tensors(run: Path) -> dict[str, str]:
    """The newest weights and state of the optimizer."""
    return {name: digest for name, digest in hashes(run / "checkpoints/step-000070").items() if "safetensors" in name}


def leftovers(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob(".*"))


def steps(checkpoints: Checkpoints, *numbers: int) -> None:
    """Save small checkpoints, whole ones."""
    for number in numbers:
        name, tensors = f"step-{number:06}", {"w": torch.full((4,), float(number))}
        checkpoints.save(name, tensors, {"step": number}, tensors, {"step": number})
        checkpoints.point("last", name)


def test_exactly_the_best_and_the_last_two_remain_and_deleting_comes_after_saving(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    steps(checkpoints, 1)
    checkpoints.point("best", "step-000001")
    for number in range(2, 11):
        before = checkpoints.names()
        steps(checkpoints, number)
        assert checkpoints.names() == [*before, f"step-{number:06}"]
        checkpoints.prune(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best", "last", "step-000001", "step-000009", "step-000010",
    ]  # fmt: skip


# --- last and best


@pytest.mark.parametrize("content", [None, "", "step-000080 " + "0" * 64, "step-000040 " + "0" * 64])
def test_without_last_a_run_goes_on_from_the_newest_that_is_intact(
    mt: Mt, run: Path, onward: dict[str, str], content: str | None
) -> None:
    """Missing, empty, pointing to nothing, pointing to another."""
    last = run / "checkpoints" / "last"
    last.unlink() if content is None else last.write_text(content)
    result = mt("train", run, *RESUME)
    assert result.code == 0, result
    assert result.err.count("warning: ") == 1 and "going on from step-000060" in result.err
    assert tensors(run) == onward


def test_while_best_is_damaged_nothing_is_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(tmp_path)
    steps(checkpoints, 1, 2, 3)
    checkpoints.point("best", "step-000001")
    write_atomically(tmp_path / "best", "step-000001")
    checkpoints.prune(1)
    steps(checkpoints, 4)
    assert checkpoints.names() == [f"step-{n:06}" for n in (1, 2, 3, 4)]
    assert "best: damaged or unreadable; no checkpoint is deleted" in capsys.readouterr().err
    checkpoints.point("best", "step-000003")
    checkpoints.prune(1)
    assert checkpoints.names() == ["step-000003", "step-000004"]


def test_a_damaged_best_does_not_end_a_run(mt: Mt, run: Path, onward: dict[str, str]) -> None:
    """A better one may come; who asks for the best meanwhile is told."""
    (run / "checkpoints/best").write_bytes(b"\xff")
    failed(mt("translate", run, stdin="ar\n"), 4, str(run / "checkpoints/best"))
    result = mt("train", run, *RESUME)
    assert tensors(run) == onward, result
    assert result.code == 0 and mt("translate", run, stdin="ar\n").code == 0


def test_a_run_is_not_begun_again_when_nothing_is_intact(mt: Mt, run: Path) -> None:
    for path in (run / "checkpoints").glob(f"step-*/{MANIFEST}"):
        path.unlink()
    (run / "checkpoints/last").unlink()
    before = hashes(run / "checkpoints")
    result = mt("train", run, *RESUME)
    assert (result.code, len(result.errors)) == (4, 1), result
    assert "no other checkpoint is intact; copy the run directory again, or start anew with --overwrite" in result.err
    assert hashes(run / "checkpoints") == before


def test_a_bit_of_any_manifest_is_seen(tmp_path: Path) -> None:
    """The digests in ``last`` and ``best`` are of two manifests only; the others vouch for themselves."""
    checkpoints = Checkpoints(tmp_path)
    steps(checkpoints, 1, 2)
    path = tmp_path / "step-000001" / MANIFEST
    path.write_text(path.read_text().replace('"step": 1', '"step": 3'))
    with pytest.raises(ArtefactError, match="damaged; choose another checkpoint"):
        checkpoints.weights("step-000001")


def test_a_damaged_older_checkpoint_does_not_end_a_run(mt: Mt, run: Path, onward: dict[str, str]) -> None:
    """The average at the end is made of the last ones; without it the run is complete all the same."""
    path = run / "checkpoints/step-000040/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    result = mt("train", run, *RESUME)
    assert result.code == 0, result
    assert tensors(run) == onward


# --- folders


def test_what_is_half_written_is_no_checkpoint_and_goes_at_the_next_save(
    mt: Mt, run: Path, onward: dict[str, str]
) -> None:
    half = shutil.copytree(run / "checkpoints/step-000060", run / "checkpoints/.step-000080.tmp")
    (half / MANIFEST).unlink()
    (run / "checkpoints/.last.tmp").write_text("step-0000")
    (run / "checkpoints/step-000060.bak").mkdir()
    shutil.copy(run / "checkpoints/step-000060" / MANIFEST, run / "checkpoints/step-000060.bak")
    assert mt("train", run, *RESUME).code == 0
    assert tensors(run) == onward
    assert leftovers(run) == []


def test_the_only_checkpoint_may_be_saved_again(tmp_path: Path) -> None:
    """Killed at any moment of it, the old one or the new one is found; ``best`` means it all the time."""
    checkpoints = Checkpoints(tmp_path)
    for moment in ("nothing", "aside", "renamed"):
        shutil.rmtree(tmp_path)
        steps(checkpoints, 5)
        checkpoints.point("best", "step-000005")
        before = {name: (tmp_path / name).read_bytes() for name in ("last", "best")}
        shutil.copytree(tmp_path / "step-000005", tmp_path / "aside")
        checkpoints.save("step-000005", {"w": torch.zeros(4)}, {"step": 5}, {"w": torch.zeros(4)}, {"step": 5})
        new, place, old = tmp_path / ".step-000005.tmp", tmp_path / "step-000005", tmp_path / ".step-000005.old.tmp"
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)  # as they were before the very end
        if moment != "renamed":
            place.replace(new)
        (tmp_path / "aside").replace(place if moment == "nothing" else old)
        assert checkpoints.newest() == "step-000005"
        assert checkpoints.resolve("best") == checkpoints.resolve("last") == "step-000005"
        assert checkpoints.weights("step-000005")["w"].tolist() == [5.0 if moment == "nothing" else 0.0] * 4


def test_a_half_deleted_checkpoint_has_no_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    steps(checkpoints, 1, 2)
    half = (tmp_path / "step-000001").replace(tmp_path / ".step-000001.old.tmp")
    (half / "model.safetensors").unlink()
    assert checkpoints.newest() == "step-000002"
    assert checkpoints.names() == ["step-000002"]
    checkpoints.prune(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-000002"]


# --- modes


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o002, 0o027, 0o077], ids=oct)
def test_modes_of_files_follow_the_umask(mt: Mt, toy_config: Callable[..., Path], tmp_path: Path, mask: int) -> None:
    with umask(mask):
        result = mt("train", toy_config(training={"max_steps": 2, "save_every": 1, "validate_every": 1}))
        assert result.code == 0, result
        assert mt("eval", tmp_path / "run").code == 0
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


# --- kills

SAVE = """
import sys
from pathlib import Path
import torch
from tests.faults.test_saving import steps
from transformer_mt.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
newest = checkpoints.newest()
number = int(newest.removeprefix("step-")) if newest else 0
print("ready", flush=True)
while True:
    for number in (number + 1, number + 1):  # a new one, and the same once more
        steps(checkpoints, number)
        checkpoints.point("best", f"step-{number:06}")
        checkpoints.prune(2)
"""


@pytest.mark.slow
def test_kills_in_the_middle_of_saving(tmp_path: Path) -> None:
    """After every one, the newest is at most one step older than what was said to be saved; nothing is left behind."""
    draw, folder = random.Random(1), tmp_path / "checkpoints"
    checkpoints, newest = Checkpoints(folder), 0
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", SAVE, str(folder)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
        before = int((folder / "last").read_text().split()[0].removeprefix("step-")) if newest else 0
        name = checkpoints.newest()
        assert newest == 0 or name is not None
        if name is not None:
            found = int(name.removeprefix("step-"))
            assert found >= max(newest, before)
            assert checkpoints.weights(name)["w"].tolist() == [float(found)] * 4
            newest = found
        if (folder / "best").exists():
            checkpoints.weights(checkpoints.resolve("best"))
    assert newest > KILLS
    steps(checkpoints, newest + 1)
    checkpoints.prune(2)
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


def test_the_folder_of_a_first_checkpoint_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not take the folder with all that is in it: the run's directory is flushed, too."""
    folder, flushed = tmp_path / "run" / "checkpoints", set[Path]()
    flush = lambda path: flushed.update([path] * folder.exists())  # noqa: E731
    monkeypatch.setattr("transformer_mt.checkpoint.sync_directory", flush)
    Checkpoints(folder).save("step-000001", {"w": torch.ones(2)}, {})
    assert folder.parent in flushed

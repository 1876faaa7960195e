"""Full, limited and read-only disks: code 6 with the path, all that was saved before unchanged, and room mends it.

The disks are real: small file systems in memory, which only root may mount.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Mt, failed, hashes, write_lines

PAGE = 4096
ROOM = (0, 1, 2, 4, 9, 20, 40)  # pages that are left: other writes fail each time


class Disk:
    """A small file system, and how full it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def leave(self, pages: int) -> None:
        """Fill it up but for so many pages."""
        self.empty()
        free = os.statvfs(self.root).f_bavail
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(0, free - pages) * PAGE)

    def empty(self) -> None:
        """Make room."""
        self._filler.unlink(missing_ok=True)
        self._filler.touch()


@contextmanager
def mounted(root: Path) -> Iterator[Path]:
    """A file system of 4 MiB at ``root``."""
    root.mkdir(exist_ok=True)
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root may mount a file system")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", root], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk") as root:
        yield Disk(root)


def saved(run: Path) -> dict[str, str]:
    return hashes(run / "checkpoints")


def weights(run: Path, step: int) -> bytes:
    return (run / f"checkpoints/step-{step:06}/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def onward(tiny_run: Path, mt: Mt, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights after 70 steps of a run that nothing happened to."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("onward") / "run")
    assert mt("train", run, "--resume", "--set", "training.max_steps=70").code == 0
    return weights(run, 70)


def test_tokenizing(mt: Mt, disk: Disk, toy_config: Callable[..., Path]) -> None:
    run = disk.root / "run"
    command = ("tokenize", toy_config(), "--set", f"run_dir={run}")
    for pages in ROOM[:5]:
        disk.leave(pages)
        result = mt(*command)
        assert (result.code, len(result.errors)) == (6, 1), result
        assert str(run) in result.errors[0] and "No space left on device; make room" in result.errors[0]
        assert not run.exists() or not {path.name for path in run.iterdir()} - {"lock", "config.yaml"}
    disk.empty()
    assert mt(*command).code == 0


def test_a_run_goes_on_when_there_is_room_again(mt: Mt, disk: Disk, tiny_run: Path, onward: bytes) -> None:
    run = shutil.copytree(tiny_run, disk.root / "run")
    before = saved(run)
    command = ("train", run, "--resume", "--set", "training.max_steps=70")
    for pages in ROOM:
        disk.leave(pages)
        result = mt(*command)
        assert (result.code, len(result.errors)) == (6, 1), result
        assert str(run) in result.errors[0] and "No space left on device" in result.errors[0]
        assert saved(run) == before
        assert mt("translate", run, stdin="ar mako\n").code == 0
    disk.empty()
    assert mt(*command).code == 0
    assert weights(run, 70) == onward


def test_the_metrics_file(mt: Mt, disk: Disk, toy_config: Callable[..., Path]) -> None:
    """It grows slowly: here it is the first that there is no room for."""
    run = disk.root / "run"
    training = {"save_every": 1000, "validate_every": 1000, "log_every": 1, "max_steps": 400}
    options = ("--set", f"run_dir={run}", "--set", f"training={json.dumps(training)}")
    assert mt("tokenize", toy_config(), *options).code == 0
    disk.leave(4)
    result = mt("train", toy_config(), *options)
    assert (result.code, len(result.errors)) == (6, 1), result
    assert str(run) in result.errors[0] and "No space left on device; make room" in result.errors[0]
    disk.empty()
    assert mt("train", run, "--resume", "--set", "training.max_steps=20").code == 0


def test_translations_of_an_evaluation(mt: Mt, disk: Disk, tiny_run: Path) -> None:
    run = shutil.copytree(tiny_run, disk.root / "run")
    assert mt("eval", run).code == 0
    before = hashes(run)
    disk.leave(0)
    failed(mt("eval", run), 6, str(run / "eval" / "test.hyp"), "No space left on device; make room")
    assert hashes(run) == before


def test_an_output_file(mt: Mt, disk: Disk, tiny_run: Path, toy_text: Path) -> None:
    old = write_lines(disk.root / "out", ["old"])
    for pages in (0, 1):
        disk.leave(pages)
        source = write_lines(disk.root.parent / "long.xx", (toy_text / "train.xx").read_text().splitlines()[:200])
        result = mt("translate", tiny_run, source, "--output", old, "--set", "decoding.beam_size=1")
        failed(result, 6, str(old), "No space left on device; make room")
        assert old.read_text() == "old\n"


def test_a_limit_of_file_sizes(
    start_mt: Callable[..., subprocess.Popen[bytes]], mt: Mt, tiny_run: Path, tmp_path: Path, onward: bytes
) -> None:
    """``ulimit -f``: the weights have no room in a file."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before, size = saved(run), (run / "checkpoints/step-000060/model.safetensors").stat().st_size
    process = start_mt(
        "train", run, "--resume", "--set", "training.max_steps=70",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)),
    )  # fmt: skip
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 6, errors
    [line] = [line for line in errors.decode().splitlines() if line.startswith("error: ")]
    assert str(run / "checkpoints") in line and "cannot be saved, but what was saved before is whole" in line
    assert "File too large; raise the limit of file sizes (ulimit -f)" in line
    assert saved(run) == before
    assert mt("train", run, "--resume", "--set", "training.max_steps=70").code == 0
    assert weights(run, 70) == onward


def test_checkpoints_that_cannot_be_written(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    """Read-only: whoever reads is served, whoever writes is told."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with mounted(run / "checkpoints") as folder:
        shutil.copytree(tiny_run / "checkpoints", folder, dirs_exist_ok=True)
        before = saved(run)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert mt("translate", run, stdin="ar mako\n").code == 0
        result = mt("train", run, "--resume", "--set", "training.max_steps=70")
        assert (result.code, len(result.errors)) == (6, 1), result
        assert f"{folder}" in result.errors[0] and "Read-only file system" in result.errors[0]
        assert saved(run) == before

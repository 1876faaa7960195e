"""The run directory: what may be claimed, who may write, and that files are the old or the new one, whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transformer_mt.errors import ArtefactError, ConfigError, SystemFault
from transformer_mt.rundir import RunDirectory, read_json, sha256, write_atomically


def fill(folder: Path, *names: str) -> RunDirectory:
    """Make files (``a/b``) and folders (``a/``) in a directory."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_text("mine", encoding="utf-8")
    return RunDirectory(folder)


def snapshot(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
    }


# --- claiming

TOKENIZED = ("config.yaml", "lock", "tokenizer/joint.model", "data/manifest.json")
STARTED = (*TOKENIZED, "metrics.jsonl")
SAVED = (*TOKENIZED, "checkpoints/step-000005/manifest.json")


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_directory_is_made_with_its_parents(tmp_path: Path, resume: bool) -> None:
    RunDirectory(tmp_path / "new" / "run").claim(resume=resume)
    assert list((tmp_path / "new" / "run").iterdir()) == []


@pytest.mark.parametrize("names", [(), ("lock",), ("lock", "exit.json"), ("lock", ".gone/x"), TOKENIZED], ids=str)
@pytest.mark.parametrize("resume", [False, True])
def test_what_is_empty_or_ours_may_be_claimed(tmp_path: Path, names: tuple[str, ...], resume: bool) -> None:
    directory = fill(tmp_path / "r", *names)
    directory.claim(resume=resume)
    assert not directory.holds_run()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_metrics_of_another_program_are_no_run_of_ours(tmp_path: Path, resume: bool, overwrite: bool) -> None:
    directory = fill(tmp_path / "r", "metrics.jsonl")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="not empty, and not a run"):
        directory.claim(resume=resume, overwrite=overwrite)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("names", [STARTED, SAVED], ids=["started", "saved"])
def test_a_directory_that_holds_a_run_needs_resume(tmp_path: Path, names: tuple[str, ...]) -> None:
    directory = fill(tmp_path / "r", *names)
    before = snapshot(tmp_path)
    assert directory.holds_run()
    with pytest.raises(ConfigError, match="already holds a run; --resume goes on with it"):
        directory.claim(resume=False)
    directory.claim(resume=True)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "names",
    [
        ("thesis.tex",),
        ("data/train.de", "data/train.en"),
        ("config.yaml", "data/train.de"),
        ("config.yaml",),
        ("checkpoints/",),
        ("lock", "thesis.tex"),
        (".git/HEAD",),
    ],
    ids=str,
)
@pytest.mark.parametrize("resume", [False, True])
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path, names: tuple[str, ...], resume: bool) -> None:
    """``run_dir: .`` in a folder with a ``config.yaml`` and raw text in ``data`` must not cost the text."""
    directory = fill(tmp_path / "r", *names)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="not empty, and not a run"):
        directory.claim(resume=resume)
    assert snapshot(tmp_path) == before


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="run_dir is a file"):
        RunDirectory(tmp_path / "file").claim(resume=False)


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_a_link_that_leads_nowhere_is_refused_by_name(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match=f"^{tmp_path}/link: run_dir is a link that leads nowhere; "):
        RunDirectory(tmp_path / "link").claim(resume=False)


def test_a_directory_that_cannot_be_made_is_the_systems_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemFault, match=str(tmp_path)):
        RunDirectory(tmp_path / "file" / "run").claim(resume=False)


# --- the lock


def test_the_lock_is_free_again_afterwards_and_after_an_error(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.lock():
        assert (tmp_path / "lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"
    with pytest.raises(ZeroDivisionError), directory.lock():
        raise ZeroDivisionError
    with directory.lock():
        pass


HOLD = """
import sys, time
from pathlib import Path
from transformer_mt.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a directory."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for _ in range(2):  # a refusal must not wipe the name of the holder
            with pytest.raises(SystemFault, match=f"in use by process {process.pid};"), RunDirectory(tmp_path).lock():
                raise AssertionError


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with RunDirectory(tmp_path).lock():
            assert (tmp_path / "lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"


def test_a_lock_that_cannot_be_made_is_the_systems_fault(tmp_path: Path) -> None:
    with pytest.raises(SystemFault, match="missing"), RunDirectory(tmp_path / "missing").lock():
        raise AssertionError


# --- overwriting


def test_an_overwrite_that_is_killed_while_it_deletes_brings_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the old run must not be laid over the new one, which has begun."""
    directory = fill(tmp_path / "r", *SAVED, "metrics.jsonl", "eval/test.hyp")
    directory.set_aside()
    fill(tmp_path / "r", "config.yaml")
    new = {name: text for name, text in snapshot(tmp_path / "r").items() if not name.startswith(".old")}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", half_way)
        directory.forget()
    assert len(snapshot(tmp_path / "r")) > len(new)
    directory.claim(resume=True)
    with directory.lock():
        assert {**snapshot(tmp_path / "r"), "lock": "mine"} == new


def half_way(path: Path, **_: object) -> None:
    """Delete one file of a folder, and be killed."""
    if path.exists():
        next(file for file in sorted(path.rglob("*")) if file.is_file()).unlink()
        raise KeyboardInterrupt


def test_a_second_overwrite_deletes_what_the_first_one_left(tmp_path: Path) -> None:
    directory = fill(tmp_path / "r", *STARTED, ".gone/metrics.jsonl")
    with directory.lock():
        directory.set_aside()
        directory.forget()
    assert set(snapshot(tmp_path / "r")) == {*TOKENIZED, "tokenizer", "data"}


@pytest.mark.parametrize("moment", ["copy2", "replace"])
def test_an_overwrite_that_is_killed_while_it_sets_aside_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """At the copy, which is half done, or after any of the moves; the configuration can be read meanwhile."""
    directory = fill(tmp_path / "r", *SAVED, "metrics.jsonl", "eval/test.hyp", "exit.json")
    before, moves, place = snapshot(tmp_path / "r"), 0, Path.replace

    def copy(_: Path, folder: Path) -> None:
        (folder / "config.yaml").write_text("mi", encoding="utf-8")
        raise KeyboardInterrupt

    def move(path: Path, target: Path) -> None:
        nonlocal moves
        place(path, target)
        moves -= 1
        if moves == 0:
            raise KeyboardInterrupt

    for count in range(1, 6 if moment == "replace" else 2):
        moves = count
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "copy2", copy) if moment == "copy2" else patch.setattr(Path, "replace", move)
            directory.set_aside()
        assert directory.config.read_text(encoding="utf-8") == "mine"
        directory.claim(resume=True)
        with directory.lock():
            assert {**snapshot(tmp_path / "r"), "lock": "mine"} == before


# --- files


def test_an_atomic_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    for text in ("old\n", "grün 漢字\r\n"):
        write_atomically(path, text)
        assert path.read_bytes() == text.encode()
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(SystemFault, match=r"file\.txt: No space left on device"):
        write_atomically(path, "new")
    assert snapshot(tmp_path) == {"file.txt": "old"}


def test_a_leftover_or_a_link_in_the_place_of_the_temporary_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    (tmp_path / ".file.txt.tmp").symlink_to(tmp_path / "mine")
    write_atomically(tmp_path / "file.txt", "new")
    assert snapshot(tmp_path) == {"file.txt": "new", "mine": "mine"}


def test_a_write_below_a_file_is_the_systems_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemFault, match=str(tmp_path)):
        write_atomically(tmp_path / "file" / "inner.txt", "text")


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    large = b"x" * 3_000_001
    (tmp_path / "large").write_bytes(large)
    assert sha256(tmp_path / "large") == hashlib.sha256(large).hexdigest()


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b'{"a": 1} x', b"[" * 100_000])
def test_damaged_json_is_an_artefact_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"x\.json"):
        read_json(tmp_path / "x.json")

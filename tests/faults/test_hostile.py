"""Files of a run made by an enemy, checksums and all: nothing runs, nothing outside is read, the error is clear.

Tags, bombs and other traps of YAML are in tests/unit/test_config.py: tags of Python, aliases, keys given twice, 1e-4.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Mt, failed, hashes
from transformer_mt.checkpoint import MANIFEST, Checkpoints
from transformer_mt.rundir import sha256
from transformer_mt.sealed import seal, unseal

RESUME = ("--resume", "--set", "training.max_steps=70")


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run whose newest checkpoint is its only one."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    for path in (run / "checkpoints").iterdir():
        if path.is_dir() and path.name != "step-000060":
            shutil.rmtree(path)
    Checkpoints(run / "checkpoints").point("best", "step-000060")
    return run


def plant(run: Path, name: str, content: bytes) -> None:
    """Put a file into the newest checkpoint, with all checksums that vouch for it."""
    checkpoints = Checkpoints(run / "checkpoints")
    folder = checkpoints.directory / checkpoints.resolve("last")
    (folder / name).write_bytes(content)
    manifest = unseal((folder / MANIFEST).read_text())
    manifest["files"][name] = sha256(folder / name)
    (folder / MANIFEST).write_text(seal(manifest))
    for pointer in ("last", "best"):
        checkpoints.point(pointer, folder.name)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "training.json", MANIFEST])
def test_a_pickle_is_never_opened(mt: Mt, run: Path, tmp_path: Path, name: str) -> None:
    content = pickle.dumps(Payload(tmp_path / "marker"))
    if name == MANIFEST:
        (run / "checkpoints/step-000060" / name).write_bytes(content)
    else:
        plant(run, name, content)
    if name in ("model.safetensors", MANIFEST):
        failed(mt("translate", run, stdin="ar\n"), 4, "step-000060")
    result = mt("train", run, *RESUME)
    assert (result.code, len(result.errors)) == (4, 1), result
    assert not (tmp_path / "marker").exists()
    pickle.loads(content)
    assert (tmp_path / "marker").exists()  # it would have been


def safetensors_file(header: object, data: bytes = bytes(64), *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


LIES = {
    "header of 2^63 bytes": safetensors_file({}, length=1 << 63),
    "header longer than the file": safetensors_file({}, length=1 << 20),
    "shape of 2^60": safetensors_file({"w": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 64]}}),
    "shape that overflows": safetensors_file(
        {"w": {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 64]}}
    ),
    "data beyond the end": safetensors_file({"w": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}}),
    "data backwards": safetensors_file({"w": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}}),
    "negative shape": safetensors_file({"w": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}),
    "overlap": safetensors_file(
        {name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in ("v", "w")}
    ),
    "unknown type": safetensors_file({"w": {"dtype": "F31", "shape": [16], "data_offsets": [0, 64]}}),
    "other weights": safetensors_file({"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}),
    "brackets": safetensors_file(b"[" * 100_000),
    "not UTF-8": safetensors_file(b"\xff\xfe"),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_file_that_lies(mt: Mt, run: Path, lie: str) -> None:
    begun = time.monotonic()
    for name in ("model.safetensors", "optimizer.safetensors"):
        plant(run, name, LIES[lie])
        command = ["translate", run] if name.startswith("model") else ["train", run, *RESUME]
        result = mt(*command, stdin="ar\n")
        assert (result.code, len(result.errors)) == (4, 1), result
        if name.startswith("model"):
            plant(run, name, (run / "checkpoints/step-000060" / name).read_bytes())
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "[" * 100_000, '{"step": 1', '{"unknown": 1}', '{"step": "x", "position": 7}']
)
def test_a_training_state_that_is_none(mt: Mt, run: Path, content: str) -> None:
    plant(run, "training.json", content.encode())
    result = mt("train", run, *RESUME)
    assert (result.code, len(result.errors)) == (4, 1), result


@pytest.mark.parametrize("content", ["", "null", "[]", "[" * 100_000, '{"files": []}', '{"files": {}, "sha256": 1}'])
def test_a_manifest_that_is_none(mt: Mt, run: Path, content: str) -> None:
    (run / "checkpoints/step-000060" / MANIFEST).write_text(content)
    failed(mt("translate", run, "--checkpoint", "step-000060"), 4, "step-000060")
    (run / "data" / MANIFEST).write_text(content)
    failed(mt("eval", run, "--checkpoint", "best"), 4)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc", ".", "..", "./step-000060", "step-000060/../../..", ".step-000060", "step-000060\0"]
)
def test_last_and_best_name_nothing_outside(mt: Mt, run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run / "checkpoints/step-000060", tmp_path / "outside")
    for pointer in ("last", "best"):
        (run / "checkpoints" / pointer).write_text(f"{name} {sha256(tmp_path / 'outside' / MANIFEST)}\n")
        failed(mt("translate", run, "--checkpoint", pointer, stdin="ar\n"), 4, str(run / "checkpoints"))
    assert mt("translate", run, "--checkpoint", name.replace("\0", "%"), stdin="ar\n").code == 2
    before = hashes(tmp_path / "outside")
    result = mt("train", run, *RESUME)
    assert result.code == 0 and "going on from step-000060" in result.err, result
    assert hashes(tmp_path / "outside") == before


def test_links_to_the_outside_are_not_followed_when_files_are_written(mt: Mt, run: Path, tmp_path: Path) -> None:
    """``last``, ``best`` and a checkpoint may be links of somebody's making: what they lead to stays as it is."""
    outside = tmp_path / "outside"
    shutil.copytree(run / "checkpoints/step-000060", outside / "step-000060")
    for name in ("last", "best", "step-000060"):
        place = run / "checkpoints" / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.replace(outside / name)
        place.symlink_to(outside / name)
    before = hashes(outside)
    result = mt("train", run, *RESUME, "--set", "training.keep_last=1")
    assert result.code == 0, result
    assert hashes(outside) == before


@pytest.mark.parametrize("name", ["train.source.ids.npy", "train.target.offsets.npy", "train.checksums.npy"])
def test_an_array_of_objects_is_refused(mt: Mt, run: Path, tmp_path: Path, name: str) -> None:
    with (run / "data" / name).open("wb") as file:
        np.save(file, np.array([Payload(tmp_path / "marker")], object), allow_pickle=True)
    result = mt("train", run, *RESUME)
    assert (result.code, len(result.errors)) == (4, 1), result
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("run_dir: !!python/object/apply:os.mkdir [MARKER]\n", "tag"),
        ("a: &a [1, 1]\nb: [*a, *a]\n", "aliases"),
        ("seed: 1\nseed: 2\n", "given twice"),
        ("seed: " + "9" * 5_000 + "\n", "config.yaml"),
        ("run_dir: " + "[" * 10_000 + "\n", "config.yaml"),
        ('run_dir: "a\\0b"\n', "a NUL character"),
        ("\0", "control character"),
    ],
    ids=["tag", "alias", "twice", "digits", "brackets", "nul", "control"],
)
def test_a_configuration_in_a_run_is_trusted_no_more_than_any_other(
    mt: Mt, run: Path, tmp_path: Path, content: str, words: str
) -> None:
    text = (run / "config.yaml").read_text()
    content = content.replace("MARKER", str(tmp_path / "marker"))
    key = content.partition(":")[0]
    kept = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    (tmp_path / "config.yaml").write_text("\n".join([*kept, content]))
    shutil.copy(tmp_path / "config.yaml", run)
    begun = time.monotonic()
    for argument in (tmp_path / "config.yaml",) if words == "a NUL character" else (run, tmp_path / "config.yaml"):
        result = mt("translate", argument, stdin="ar\n")
        failed(result, 2, words)
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("key", ["data.train.source", "tokenizer.from", "training.start_from"])
def test_a_path_with_nul_is_told(mt: Mt, toy_config: Callable[..., Path], key: str) -> None:
    result = mt("train", toy_config(), "--set", f'{key}="a\\0b"')
    failed(result, 2, "a NUL character")

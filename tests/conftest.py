"""What the tests share: a toy language, a small run trained on it, and the command line as a function."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import settings

settings.register_profile("tests", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("tests")

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def pytest_configure(config: pytest.Config) -> None:
    """Nothing may reach the network, no cache of the user's is used, and tiny products take one thread."""
    cache = tempfile.TemporaryDirectory(prefix="mt-tests-hf-")
    config.add_cleanup(cache.cleanup)
    os.environ.update(OFFLINE, HF_HOME=cache.name)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# A toy language: words of four letters, translated one by one, in the opposite order.
_NOUNS = ["mako", "bilu", "tofi", "rane", "suda", "gipe", "lomu", "veka", "nuri", "pado"]
_VERBS = ["kist", "balm", "torf", "renk", "sulm"]
_OTHER = ["ar", "el", "in", "os", "ut"]
DICTIONARY = {
    **{word: word[::-1] + "n" for word in _NOUNS},
    **{word: word[1:] + "e" for word in _VERBS},
    **{word: "z" + word for word in _OTHER},
}


def toy_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Different sentence pairs of the toy language."""
    draw = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        words = [draw.choice(_OTHER), draw.choice(_NOUNS), draw.choice(_VERBS)]
        while len(words) < 9 and draw.random() < 0.6:
            words += [draw.choice(_OTHER), draw.choice(_NOUNS)]
        pairs[" ".join(words)] = " ".join(DICTIONARY[word] for word in reversed(words))
    return list(pairs.items())


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write lines as UTF-8, each with its end."""
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def toy_tree(folder: Path, run_dir: Path, **sections: Any) -> dict[str, Any]:
    """The configuration of a tiny run on toy text below ``folder``; ``sections`` are merged into it."""
    tree: dict[str, Any] = {
        "languages": {"source": "xx", "target": "yy"},
        "data": {
            split: {"source": str(folder / f"{split}.xx"), "target": str(folder / f"{split}.yy")}
            for split in ("train", "valid", "test")
        },
        "tokenizer": {"vocab_size": 310},
        "model": {"size": "tiny", "layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "dropout": 0.1},
        "training": {
            "batch_tokens": 512,
            "max_steps": 60,
            "precision": "float32",
            "warmup_steps": 20,
            "learning_rate": 5e-3,
            "save_every": 20,
            "validate_every": 30,
            "keep_last": 3,
            "samples": 1,
        },
        "decoding": {"beam_size": 3, "batch_size": 8},
        "device": "cpu",
        "run_dir": str(run_dir),
    }
    for section, values in sections.items():
        tree[section] = {**tree[section], **values} if isinstance(values, dict) else values
    return tree


def write_toy_text(folder: Path) -> None:
    """Write training, validation and test text of the toy language."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = toy_pairs(420)
    for split, part in (("train", pairs[:400]), ("valid", pairs[400:410]), ("test", pairs[410:])):
        for number, side in enumerate(("xx", "yy")):
            write_lines(folder / f"{split}.{side}", [pair[number] for pair in part])


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that say ``error:``; there must be one when a command fails, and none otherwise."""
        return [line for line in self.err.split("\n") if line.startswith("error:")]


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def failed(result: Result, code: int, *words: str) -> None:
    """Assert that a command failed as promised: its code, one line on stderr that says why, nothing on stdout."""
    assert result.code == code, result.err
    assert len(result.errors) == 1, result.err
    assert result.err.endswith(result.errors[0] + "\n")
    assert "Traceback" not in result.err
    assert result.out == ""
    for word in words:
        assert word in result.errors[0]


Mt = Callable[..., Result]


def run_in_process(*arguments: object, stdin: str | bytes = b"") -> Result:
    """Carry out ``mt ARGUMENTS`` in this process, with streams like those of a real one that is in no terminal."""
    from transformer_mt.__main__ import run

    given = stdin.encode() if isinstance(stdin, str) else stdin
    streams = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="\n") for data in (given, b"", b"")]
    with patch.object(sys, "stdin", streams[0]), redirect_stdout(streams[1]), redirect_stderr(streams[2]):
        code = run([str(argument) for argument in arguments])
    texts = []
    for stream in streams[1:]:
        stream.flush()
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        texts.append(buffer.getvalue().decode())
    return Result(code, *texts)


@pytest.fixture(scope="session")
def mt() -> Mt:
    """The command line, carried out in this process: ``mt("translate", run, stdin="…")``."""
    return run_in_process


@pytest.fixture
def start_mt() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start ``mt`` as a process of its own, with pipes; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "transformer_mt", *map(str, arguments)]
        process = subprocess.Popen(command, **{**pipes, **options})
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start_session() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start a program in a session of its own, with pipes; at the end of the test all that it started is killed."""
    started: list[subprocess.Popen[Any]] = []

    def start(words: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
        pipe = subprocess.PIPE
        process: subprocess.Popen[Any] = subprocess.Popen(
            [str(word) for word in words], stdout=pipe, stderr=pipe, start_new_session=True, **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for pid in (process.pid, *descendants(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with process:
            pass


def descendants(pid: int) -> list[int]:
    """The processes that one has started, and those that they have, in whatever session."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


PATIENCE = 120.0  # seconds that a machine at its limits may take for what is done in two


def wait_for(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something holds; a process given has to live so long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def workers(process: subprocess.Popen[Any]) -> list[int]:
    """The processes that share the work of one; what :mod:`multiprocessing` has started beside them is left out."""
    found = []
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split():
        with suppress(FileNotFoundError, ProcessLookupError):  # one that ends meanwhile
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


@pytest.fixture(scope="session")
def toy_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, valid and test text of the toy language (``.xx``, ``.yy``); not to be changed."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy_text(folder)
    return folder


@pytest.fixture
def toy_config(toy_text: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration file for a run in ``tmp_path / "run"``; sections given are merged into the toy one."""

    def write(**sections: Any) -> Path:
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(toy_tree(toy_text, tmp_path / "run", **sections)), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def tiny_run(toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of 60 steps on the toy language; not to be changed, so copy it to damage it."""
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(toy_tree(toy_text, folder / "run")), encoding="utf-8")
    result = run_in_process("train", config)
    assert result.code == 0, result.err
    return folder / "run"

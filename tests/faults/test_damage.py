"""Damage to the files of a run: every outcome is a clear error or what the undamaged run gives.

Each case copies a small run, damages one of its files, and lets what reads it do so: scoring translations by several
checkpoints, reading validation and test set, walking ids and text of the token store, resuming for two steps.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
import yaml

from tests.conftest import hashes, run_in_process, toy_pairs, toy_tree, write_lines, write_toy_text
from transformer_mt.config_file import load_config
from transformer_mt.data import prepare
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import MtError
from transformer_mt.experiment.run import make_batches
from transformer_mt.rundir import RunDirectory, sha256
from transformer_mt.translate import Translator

SEED = 1
QUICK = 150  # in `make test`
CASES = int(os.environ.get("CASES", "2000"))  # after them in `make test-slow`
STEPS = 6
SELDOM = ("data/", "eval/", "checkpoints/step-000002/", "checkpoints/step-000004/")  # is a run resumed after damage
SOURCE, TARGET = toy_pairs(1)[0]
PATIENCE = 60  # seconds for what takes less than one
LOGS = ("metrics.jsonl", "exit.json", "lock", "eval/")  # nothing is computed from them


def flip(content: bytes, draw: random.Random) -> bytes:
    """One bit is another."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def scribble(content: bytes, draw: random.Random) -> bytes:
    """Some bytes are any."""
    place, length = draw.randrange(len(content)), draw.randint(1, 64)
    return (content[:place] + draw.randbytes(length) + content[place + length :])[: len(content)]


def blank(content: bytes, draw: random.Random) -> bytes:
    """A part is zero, as after a power cut."""
    place, length = draw.randrange(len(content)), draw.randint(1, 4096)
    return (content[:place] + bytes(length) + content[place + length :])[: len(content)]


DAMAGES: list[Callable[[bytes, random.Random], bytes | None]] = [
    flip,
    lambda content, draw: content[: draw.randrange(len(content))],
    scribble,
    flip,
    blank,
    lambda content, draw: draw.randbytes(len(content)),
    lambda content, draw: content + draw.randbytes(draw.randint(1, 64)),
    flip,
    lambda content, draw: b"",
    flip,
    lambda content, draw: None,  # the file is gone
]


class Hangs(BaseException):
    """It takes too long. No error that a reader may turn into one of its own, as it may a TimeoutError, an OSError."""


@contextmanager
def patience(what: str) -> Iterator[None]:
    """End what hangs."""

    def enough(number: int, frame: FrameType | None) -> None:
        raise Hangs(what)

    before = signal.signal(signal.SIGALRM, enough)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def scored(run: Path, checkpoint: str) -> object:
    """Log-probabilities of a translation, and all that makes them."""
    return Translator.load(run, checkpoint).score([SOURCE], [TARGET])


def walked(run: Path) -> object:
    """The first batches of training, with pieces drawn from the text; all of the store is read for them."""
    config, paths = load_config(run), RunDirectory(run)
    manifest = prepare.read_manifest(paths.data) or {}
    batches = make_batches(config, paths, Tokenizer.load(paths.tokenizer, manifest.get("tokenizer")))
    try:
        return [[bucket.collate().source.tolist() for bucket in batch] for batch in batches.window(0, 0)]
    finally:
        batches.close()


def resumed(run: Path) -> object:
    """Weights and state of the optimizer two steps later."""
    result = run_in_process("train", run, "--resume", "--set", f"training.max_steps={STEPS + 2}")
    assert "Traceback" not in result.err, result
    assert len(result.errors) == (result.code != 0), result
    if result.code:
        raise next(kind for kind in MtError.__subclasses__() if kind.code == result.code)(result.errors[0])
    names = ("model.safetensors", "optimizer.safetensors")
    return [sha256(run / "checkpoints" / f"step-{STEPS + 2:06}" / name) for name in names]


CHEAP: dict[str, Callable[[Path], object]] = {
    **{f"score {name}": partial(scored, checkpoint=name) for name in ("best", "last", f"step-{STEPS - 2:06}")},
    "valid": lambda run: prepare.evaluation_set(run / "data", "valid"),
    "test": lambda run: prepare.evaluation_set(run / "data", "test"),
    "walk": walked,
}


@dataclass(frozen=True)
class Subject:
    """A run to be damaged in copies, and what its readers compute."""

    run: Path
    files: list[str]
    expected: dict[str, object]

    def survives(self, number: int, folder: Path) -> None:
        """Damage a copy, another way for every ``number``, and look at what comes of it."""
        draw = random.Random(f"{SEED} {number}")
        which, name = number // len(self.files), self.files[number % len(self.files)]
        damage = DAMAGES[which % len(DAMAGES)]
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.run, run)
        content = damage((run / name).read_bytes() or b"\n", draw)
        (run / name).unlink() if content is None else (run / name).write_bytes(content)
        case = f"case {number}: {name}, damage {which % len(DAMAGES)}"
        # Resuming is slow: most cases do without where the others read all that it reads.
        readers = {**CHEAP, "resume": resumed} if number % 8 == 0 or not name.startswith(SELDOM) else CHEAP
        for reader, read in readers.items():
            try:
                with patience(case):
                    computed = read(run)
            except MtError as error:
                # What is not there is a mistake of the command line; a configuration may be a valid other one.
                allowed = {2, 3, 4} if name == "config.yaml" else {4} if content is not None else {2, 4}
                assert error.code in allowed and not name.startswith(LOGS), f"{case}: {reader}: {error!r}"
            except Exception as error:
                raise AssertionError(f"{case}: {reader}") from error
            else:
                assert computed == self.expected[reader] or name == "config.yaml", f"{case}: {reader}: not the same"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A run of a few steps, two models of subwords, a test set with two references; evaluated once."""
    folder = tmp_path_factory.mktemp("subject")
    write_toy_text(folder)
    for number, side in enumerate(("xx", "yy")):
        write_lines(folder / f"valid.{side}", [pair[number] for pair in toy_pairs(410)[408:]])
    tree = toy_tree(
        folder,
        folder / "run",
        tokenizer={"joint": False, "vocab_size": 290},
        model={"width": 16, "feed_forward": 16},
        training={"max_steps": STEPS, "save_every": 2, "validate_every": 4, "warmup_steps": 2, "subword_sampling": 0.2,
                  "average": False, "samples": 0},
        decoding={"beam_size": 2},
    )  # fmt: skip
    tree["data"]["test"]["target"] = [str(folder / "test.yy")] * 2
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    for command in (["train", config], ["eval", folder / "run"]):
        result = run_in_process(*command)
        assert result.code == 0, result.err
    copy = shutil.copytree(folder / "run", folder / "copy")
    expected = {name: read(copy) for name, read in {**CHEAP, "resume": resumed}.items()}
    return Subject(folder / "run", sorted(hashes(folder / "run")), expected)


def test_what_hangs_is_no_error_of_a_reader(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it hangs where a reader takes every error of the system for damage."""
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE", 1)
    monkeypatch.setattr("transformer_mt.rundir.Path.read_text", lambda path, **options: time.sleep(60))
    with pytest.raises(Hangs):
        subject.survives(0, tmp_path)


def test_the_readers_see_what_they_read(subject: Subject) -> None:
    """Else nothing above would be a test: scores are of numbers, walks of pairs, and steps differ."""
    assert len({str(subject.expected[f"score {name}"]) for name in ("last", f"step-{STEPS - 2:06}")}) == 2
    assert len(subject.files) > 30


def test_damage_is_found_or_does_no_harm(subject: Subject, tmp_path: Path) -> None:
    for number in range(QUICK):
        subject.survives(number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_much_damage_is_found_or_does_no_harm(subject: Subject, tmp_path: Path, part: int) -> None:
    for number in range(QUICK + part, QUICK + CASES, 10):
        subject.survives(number, tmp_path)

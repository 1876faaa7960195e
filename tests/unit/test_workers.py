"""All cores: the same translations as of one process, in order, whatever becomes of the text or of a worker."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import toy_pairs
from transformer_mt import Translator, workers
from transformer_mt.errors import ConfigError, DataError, SystemFault
from transformer_mt.translate import Translation
from transformer_mt.workers import AllCores

SETTINGS = ["decoding.beam_size=2", "decoding.batch_size=2"]
CHUNK = 16  # lines that are sorted together
LINES = [pair[0] for pair in toy_pairs(60, seed=9)]


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformer_mt.translate._READ_AHEAD", CHUNK // 2)
        yield


class OfTwo(AllCores):
    """With one process beside this one, whose batches are counted."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches = 0

    def translate_batch(self, sources: list[list[int]], best: int, *, tokens: bool) -> list[list[Translation]]:
        self.batches += 1
        return super().translate_batch(sources, best, tokens=tokens)


@pytest.fixture(scope="module")
def one(tiny_run: Path) -> Translator:
    return Translator.load(tiny_run, overrides=SETTINGS)


@pytest.fixture(scope="module")
def make_two(tiny_run: Path) -> Callable[[], OfTwo]:
    def make() -> OfTwo:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "cores", lambda: 2)
            translator = OfTwo.load(tiny_run, overrides=SETTINGS)
        translator._seconds = 1000.0  # so that it starts the other at once
        return translator

    return make


@pytest.fixture(scope="module")
def two(make_two: Callable[[], OfTwo]) -> Iterator[OfTwo]:
    """With the other process at work."""
    with make_two() as translator:
        for _ in translator.stream(itertools.cycle(LINES[:CHUNK])):
            if translator._workers[0].room:
                break
            time.sleep(0.1)
        yield translator


def test_translations_come_in_order_and_are_those_of_one_process(one: Translator, two: OfTwo) -> None:
    """Lines without text, chunks of nothing else, scores and tokens included."""
    lines = [*LINES[:20], *[""] * 2 * CHUNK, *LINES[20:], " "]
    counted: list[int] = []
    two.batches = 0
    found = list(two.stream(lines, 2, counted.append, tokens=True))
    assert found == list(one.stream(lines, 2, tokens=True))
    assert sum(counted) == len(LINES)
    assert 0 < two.batches < len(counted)  # the other did the rest


def test_sentences_too(one: Translator, two: OfTwo) -> None:
    lines = [". ".join(line.capitalize() for line in LINES[n : n + n % 4]) for n in range(30)]
    assert list(two.stream_sentences(lines)) == list(one.stream_sentences(lines))
    assert list(two.stream([])) == []


def test_what_nobody_wanted_to_the_end_does_no_harm(one: Translator, two: OfTwo) -> None:
    for _ in zip(range(CHUNK + 1), two.stream(LINES), strict=False):
        pass
    assert list(two.stream(LINES[:8])) == list(one.stream(LINES[:8]))


def test_warnings_have_the_numbers_of_their_lines(
    one: Translator, two: OfTwo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer_mt.translate.LONGEST_SOURCE", 10)
    lines = ["ar", "mako " * 12] * CHUNK
    told = []
    for translator in (one, two):
        list(translator.stream(lines, first=100))
        told.append(capsys.readouterr().err.splitlines())
    assert told[0] == told[1]
    assert [line.split(":")[1] for line in told[0]] == [f" line {n}" for n in range(102, 101 + len(lines), 2)]


@pytest.mark.parametrize("before", [2 * CHUNK, 2 * CHUNK + 7])
@pytest.mark.parametrize("method", ["stream", "stream_sentences"])
def test_what_stands_before_a_fault_of_the_text_is_translated(
    one: Translator, two: OfTwo, before: int, method: str
) -> None:
    def faulty() -> Iterator[str]:
        yield from LINES[:before]
        raise DataError("text:5: not UTF-8; convert it")

    def until_the_fault(translator: Translator) -> Iterable[Any]:
        with pytest.raises(DataError, match="text:5"):
            yield from getattr(translator, method)(faulty())

    found = list(until_the_fault(two))
    assert len(found) == 2 * CHUNK
    assert found == list(until_the_fault(one))


def test_what_a_worker_raises_is_raised_here(make_two: Callable[[], OfTwo]) -> None:
    """Here it finds no checkpoint."""
    with make_two() as translator:
        assert translator._origin is not None
        translator._origin = (translator._origin[0], "step-9")
        with pytest.raises(ConfigError, match="no checkpoint 'step-9'"):
            for _ in translator.stream(itertools.cycle(LINES[:1])):
                time.sleep(0.1)


def test_a_worker_that_is_killed_is_told(make_two: Callable[[], OfTwo]) -> None:
    with make_two() as translator, pytest.raises(SystemFault, match=r"process \d+: one of 2 that translate was killed"):
        for _ in translator.stream(itertools.cycle(LINES[:CHUNK])):
            [worker] = translator._workers
            assert worker.process.pid is not None
            os.kill(worker.process.pid, signal.SIGKILL)
    assert not translator._workers


def test_threads_are_one_while_there_are_workers(make_two: Callable[[], OfTwo]) -> None:
    torch.set_num_threads(2)
    try:
        with make_two() as translator:
            next(translator.stream(LINES))
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_little_work_starts_nothing(make_two: Callable[[], OfTwo]) -> None:
    with make_two() as translator:
        translator._seconds = 0.0
        assert len(list(translator.stream(LINES[:8]))) == 8
        assert not translator._workers


def test_cores_are_those_allowed_and_no_more_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, threads, expected in [({0}, 8, 1), ({0, 1, 5}, 8, 3), ({0, 1, 5}, 2, 2)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, allowed=allowed: allowed)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert workers.cores() == expected

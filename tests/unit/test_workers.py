"""All cores: the same translations as of one process, in order, whatever becomes of the text."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import toy_pairs
from transformer_mt import Translator, parallel, workers
from transformer_mt.errors import DataError
from transformer_mt.translate import Translation, Wanted
from transformer_mt.workers import AllCores, processes

SETTINGS = ["decoding.beam_size=2", "decoding.batch_size=2"]
CHUNK = 16  # lines that are sorted together
LINES = [pair[0] for pair in toy_pairs(60, seed=9)]


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformer_mt.translate._READ_AHEAD", CHUNK // 2)
        yield


@pytest.fixture(scope="module")
def one(tiny_run: Path) -> Translator:
    return Translator.load(tiny_run, overrides=SETTINGS)


class OfTwo(AllCores):
    """With two other processes, which have everything to do."""

    def translate_batch(self, sources: list[list[int]], wanted: Wanted) -> list[list[Translation]]:
        raise AssertionError


@pytest.fixture(scope="module")
def two(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfTwo]:
    """What is the best checkpoint is no more when the processes are started."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("two") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "processes", lambda: 2)
        patch.setattr(parallel, "PAYS", 0.0)
        with OfTwo.load(run, overrides=[*SETTINGS, f"run_dir={run}"]) as translator:
            (run / "checkpoints" / "best").unlink()
            yield translator


def test_translations_come_in_order_and_are_those_of_one_process(one: Translator, two: OfTwo) -> None:
    """Lines without text, chunks of nothing else, scores and tokens included."""
    lines = [*LINES[:20], *[""] * 2 * CHUNK, *LINES[20:], " "]
    counted: list[int] = []
    found = list(two.stream(lines, Wanted(2, tokens=True), counted.append))
    assert found == list(one.stream(lines, Wanted(2, tokens=True)))
    assert sum(counted) == len(LINES)


def test_sentences_too(one: Translator, two: OfTwo) -> None:
    lines = [". ".join(line.capitalize() for line in LINES[n : n + n % 4]) for n in range(30)]
    assert list(two.stream_sentences(lines)) == list(one.stream_sentences(lines))
    assert list(two.stream([])) == []


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


@pytest.mark.parametrize(("method", "before"), [("stream", 2 * CHUNK), ("stream_sentences", 2 * CHUNK + 7)])
def test_what_stands_before_a_fault_of_the_text_is_translated(
    one: Translator, two: OfTwo, method: str, before: int
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


def test_processes_are_one_a_core_that_is_allowed_and_no_more_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, threads, expected in [({0}, 8, 1), ({0, 1, 5}, 8, 3), ({0, 1, 5}, 2, 2)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, allowed=allowed: allowed)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert processes() == expected

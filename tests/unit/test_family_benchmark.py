"""The benchmark of the attention family trains what is left, and tells of all."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks import family

TINY = ["model.width=32", "tokenizer.vocab_size=310", "training.max_steps=4", "training.log_every=1",
        "training.warmup_steps=1"]  # fmt: skip


def run(folder: Path, corpus: Path, *systems: str) -> None:
    settings = [word for key in TINY for word in ("--set", key)]
    core = str(min(os.sched_getaffinity(0)))
    words = [*systems, "--folder", folder, "--corpus", corpus, "--languages", "xx-yy", "--core", core, *settings]
    with patch.object(sys, "argv", ["family", *map(str, words)]), patch.object(os, "sched_setaffinity"):
        family.main()


def test_what_is_finished_is_told_again_and_not_done_again(
    toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, toy_text, "recurrent-dot")
    known = json.loads((tmp_path / "recurrent-dot.json").read_text())
    assert known["steps"] == 4
    assert sum(band["sentences"] for band in known["bands"]) == len((toy_text / "test.xx").read_text().splitlines())
    assert known["alignment_error_rate"] is None  # the toy text has no links
    assert min(known[key] for key in ("parameters", "trains", "translates", "peak_mb")) > 0
    os.utime(tmp_path / "recurrent-dot.json", (1, 1))
    run(tmp_path, toy_text, "recurrent-dot", "recurrent-fixed")
    assert (tmp_path / "recurrent-dot.json").stat().st_mtime == 1
    rows = (tmp_path / "table.md").read_text().splitlines()
    assert {row.split(" | ")[0].strip("| ") for row in rows} == {"system", "---", "recurrent-dot", "recurrent-fixed"}
    assert rows[0] in capsys.readouterr().out
    if importlib.util.find_spec("matplotlib"):
        picture = (tmp_path / "lengths.svg").read_text()
        assert ">recurrent-dot<" in picture
        assert ">recurrent-fixed<" in picture


def test_the_alignment_error_is_that_of_the_head_chosen_by_the_validation_set() -> None:
    """A head that is right in the test set alone is not chosen."""
    rates = {"valid": [[0.3, 0.2], [0.4, 0.5]], "test": [[0.0, 0.25], [0.1, 0.1]]}
    assert family.chosen(rates) == 0.25

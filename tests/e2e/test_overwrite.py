"""`mt train --overwrite` replaces a run only when the new one begins; nothing is lost before."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Mt, failed, hashes, write_lines
from transformer_mt.rundir import RunDirectory


def test_overwrite_starts_anew_and_keeps_the_token_store(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path
) -> None:
    config = toy_config(training={"max_steps": 20, "validate_every": 20})
    assert mt("train", config).code == 0
    assert mt("average", config).code == 0
    store = (tmp_path / "run" / "data" / "manifest.json").stat().st_mtime_ns
    result = mt("train", config, "--overwrite", "--set", "training.max_steps=10", "--set", "model.layers=2")
    assert result.code == 0, result.err
    assert (tmp_path / "run" / "data" / "manifest.json").stat().st_mtime_ns == store
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"step-000010", "last", "best"}
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(event["step"] for event in events) == 10


def test_overwrite_deletes_nothing_that_is_not_a_run(mt: Mt, toy_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "mine.txt").write_text("mine")
    failed(mt("train", toy_config(), "--overwrite"), 2, "not empty, and not a run")
    assert (tmp_path / "run" / "checkpoints" / "mine.txt").read_text() == "mine"
    failed(mt("train", toy_config(), "--overwrite", "--resume"), 2, "choose one")


def test_an_overwrite_that_fails_leaves_the_run_as_it_was(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path
) -> None:
    config = toy_config(training={"max_steps": 10, "validate_every": 10})
    assert mt("train", config).code == 0
    before = hashes(tmp_path / "run")
    bad = write_lines(tmp_path / "bad.xx", ["mako"] * 3)
    settings = ("--set", f"data.train={{source: {bad}, target: {tmp_path / 'none.yy'}}}")
    failed(mt("train", config, "--overwrite", *settings), 3, "none.yy: no such file")
    write_lines(tmp_path / "none.yy", ["nokam"] * 4)
    assert mt("train", config, "--overwrite", *settings).code == 3
    assert hashes(tmp_path / "run") == before
    assert mt("translate", tmp_path / "run", stdin="mako\n").code == 0


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"training.start_from": "{tmp}/generall"}, 2),
        ({"training.start_from": "{tmp}/run"}, 2),
        ({"data.train": "{{source: {text}/train.xx, target: {text}/train.yy, weight: 0.001}}"}, 2),
        ({"data.valid": "{{source: {tmp}/blank, target: {tmp}/blank}}"}, 3),
        ({"model.heads": "3"}, 2),
    ],
    ids=["no such run", "itself", "weights too small", "validation without text", "impossible model"],
)
def test_an_overwrite_that_fails_late_leaves_the_run_as_it_was(
    mt: Mt, toy_config: Callable[..., Path], toy_text: Path, tmp_path: Path, settings: dict[str, str], code: int
) -> None:
    """Also what only shows once the new text is tokenized and the model made."""
    write_lines(tmp_path / "blank", ["", " "])
    config = toy_config(training={"max_steps": 10, "validate_every": 10})
    assert mt("train", config).code == 0
    before = hashes(tmp_path / "run")
    given = [f"{key}={value.format(tmp=tmp_path, text=toy_text)}" for key, value in settings.items()]
    failed(mt("train", config, "--overwrite", *(word for setting in given for word in ("--set", setting))), code)
    assert hashes(tmp_path / "run") == before


def test_an_overwrite_that_was_killed_before_it_began_is_undone(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path
) -> None:
    config = toy_config(training={"max_steps": 10, "validate_every": 10})
    assert mt("train", config).code == 0
    before = hashes(tmp_path / "run")
    kill_overwrite(tmp_path / "run")
    result = mt("train", config, "--resume")
    assert result.code == 0, result.err
    assert "the run is finished already" in result.err
    assert {key: value for key, value in hashes(tmp_path / "run").items() if key != "lock"} == {
        key: value for key, value in before.items() if key != "lock"
    }


def kill_overwrite(run: Path) -> None:
    """Leave what a killed ``--overwrite`` leaves while it reads the text."""
    RunDirectory(run).set_aside()
    (run / ".new" / "data").mkdir(parents=True)


@pytest.mark.parametrize("flags", [[], ["--resume"]], ids=str)
def test_a_run_that_a_killed_overwrite_had_set_aside_is_not_gone_on_with_by_mistake(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path, flags: list[str]
) -> None:
    """The command given again without its flag; or with ``--resume``, but the settings that were to replace it.

    By the configuration file, or by the directory itself.
    """
    config = toy_config(training={"max_steps": 10, "validate_every": 10})
    assert mt("train", config).code == 0
    before = hashes(tmp_path / "run")
    kill_overwrite(tmp_path / "run")
    other = ("--set", "training.learning_rate=0.002", "--set", "training.max_steps=20")
    result = mt("train", tmp_path / "run" if flags else config, *flags, *other)
    if flags:
        failed(result, 4, "cannot resume with other settings: training.learning_rate is 0.002 but was 0.005")
    else:
        failed(result, 2, "already holds a run; --resume goes on with it, --overwrite starts anew")
    after = {**hashes(tmp_path / "run"), "lock": before["lock"]}
    assert {**after, "exit.json": before["exit.json"]} == before  # which tells of the refusal
    assert not (tmp_path / "run" / ".old").exists()

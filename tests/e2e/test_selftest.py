"""``mt selftest`` proves exact resume on the user's own configuration, and tells when it does not hold."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import PATIENCE, Mt, failed, toy_tree, wait_for, workers
from transformer_mt.checkpoint import TRAINING, Checkpoints, model_weights
from transformer_mt.config_file import load_config
from transformer_mt.experiment import selftest
from transformer_mt.experiment.run import make_trainer, make_trial
from transformer_mt.rundir import RunDirectory
from transformer_mt.translate import Translation, Translator, Wanted

Write = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[bytes]"]
Session = Callable[..., "subprocess.Popen[str]"]
NAMES = ["exact resume", "save and load", "batch invariance"]


def test_it_holds_here_and_nothing_is_left(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    """With dropout; the scratch folder is gone, and training starts as in a directory that was tokenized."""
    config = toy_config(training={"max_steps": 3, "average": False})
    result = mt("selftest", config)
    assert result.code == 0, result.err
    assert [line.partition(":")[0] for line in result.out.splitlines()] == [f"ok     {name}" for name in NAMES]
    assert "killed in step 8, resumed from step-000006, step 12" in result.out
    assert "equal bit by bit" in result.out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "data", "lock", "tokenizer"}
    assert mt("train", config).code == 0


def trial(run: Path, folder: Path) -> Path:
    """A copy of what training left."""
    folder.mkdir()
    shutil.copytree(run / "checkpoints", folder / "checkpoints")
    shutil.copy(run / "metrics.jsonl", folder)
    return folder


def saved_again(folder: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> None:
    """Save the last step again, after a change of the optimizer's tensors and of the progress."""
    checkpoints = Checkpoints(folder / "checkpoints")
    optimizer, progress = checkpoints.training("step-000060")
    change(optimizer, progress)
    checkpoints.save("step-000060", checkpoints.weights("step-000060"), {"step": 60}, optimizer, progress)


def nudge(folder: Path) -> None:
    """One weight is another, in its last bit."""
    checkpoints = Checkpoints(folder / "checkpoints")
    weights = checkpoints.weights("step-000060")
    value = next(iter(weights.values())).view(-1)
    value[0] = torch.nextafter(value[0], torch.tensor(math.inf))
    checkpoints.save("step-000060", weights, {"step": 60}, *checkpoints.training("step-000060"))


def rewrite(folder: Path) -> None:
    """One loss is another."""
    first, *others = (folder / "metrics.jsonl").read_text().splitlines()
    lines = [json.dumps({**json.loads(first), "loss": 1.0}), *others]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))


DIFFERENCES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nothing": (lambda folder: None, None),
    "times": (lambda folder: saved_again(folder, lambda _, progress: progress.update(seconds=1e9)), None),
    "a bit": (nudge, "step-000060/model.safetensors"),
    "NaN": (
        lambda folder: saved_again(folder, lambda optimizer, _: next(iter(optimizer.values())).fill_(math.nan)),
        "step-000060/optimizer.safetensors",
    ),
    "no tensor": (
        lambda folder: saved_again(folder, lambda optimizer, _: optimizer.popitem()),
        "step-000060/optimizer.safetensors",
    ),
    "progress": (
        lambda folder: saved_again(folder, lambda _, progress: progress.update(stale=7)),
        f"step-000060/{TRAINING}",
    ),
    "best": (lambda folder: Checkpoints(folder / "checkpoints").point("best", "step-000040"), "best"),
    "metrics": (rewrite, "metrics.jsonl"),
    "no metrics": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_is_found(tiny_run: Path, tmp_path: Path, difference: str) -> None:
    """Whichever run has it."""
    config, (make, named) = load_config(tiny_run), DIFFERENCES[difference]
    killed, whole = (trial(tiny_run, tmp_path / name) for name in ("killed", "whole"))
    make(killed)
    for pair in ((killed, whole), (whole, killed)):
        check = selftest._compared("here", *pair, config)
        assert check.passed == (named is None), check
        assert named is None or f"not equal: {named}" in check.seen


def test_a_distance_keeps_nan_and_knows_what_is_missing() -> None:
    ours = {"a": torch.zeros(2), "b": torch.ones(2)}
    assert selftest._distance(ours, ours) == 0
    assert selftest._distance(ours, {**ours, "b": torch.tensor([1.0, 0.75])}) == 0.25
    for nan in ({**ours, "a": torch.tensor([0, math.nan])}, {**ours, "b": torch.tensor([math.nan, 1])}):
        assert math.isnan(selftest._distance(ours, nan))
        assert math.isnan(selftest._distance(nan, ours))
    for other in ({"a": ours["a"]}, {**ours, "b": torch.ones(3)}):
        assert selftest._distance(ours, other) == selftest._distance(other, ours) == math.inf


def test_a_failed_check_is_told(mt: Mt, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = selftest.Check("exact resume", passed=False, seen="differ")
    monkeypatch.setattr(selftest, "selftest", lambda config: iter([check]))
    result = mt("selftest", tiny_run)
    assert result.out == "FAILED exact resume: differ\n"
    failed(replace(result, out=""), 1, "exact resume")


FORGETFUL = """from transformer_mt import __main__ as mt
from transformer_mt.training.trainer import Trainer

def resume(self, name, resume=Trainer.resume):
    resume(self, name)
    self.progress.{what}

Trainer.resume = resume
if __name__ == "__main__":
    mt.main()
"""


@pytest.mark.parametrize("what", ["stale = 0", pytest.param("best = None", marks=pytest.mark.slow)])
def test_what_resuming_forgets_is_found(start_session: Session, toy_config: Write, tmp_path: Path, what: str) -> None:
    """Validations before and after the kill: what they leave is no initial value."""
    script = tmp_path / "forgetful.py"
    script.write_text(FORGETFUL.format(what=what))
    process = start_session([sys.executable, script, "selftest", toy_config()], text=True)
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "FAILED exact resume", "ok     save and load", "ok     batch invariance"
    ]  # fmt: skip


def test_scores_are_the_same_to_the_bit_where_that_is_promised(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU in float32; in bfloat16 they are close."""
    stream: Any = Translator.stream

    def nudged(self: Translator, lines: list[str], *_: Wanted, by: float = 1e-7) -> Iterator[list[Translation]]:
        for first, *_ in stream(self, lines):
            yield [replace(first, score=first.score + (by if len(lines) == 1 else 0))]

    run = trial(tiny_run, tmp_path / "run")
    config = load_config(tiny_run)
    low = load_config(tiny_run, ["decoding.precision=bfloat16"])

    def verdicts() -> list[bool]:
        return [list(selftest._translated(settings, run))[-1].passed for settings in (config, low)]

    assert verdicts()[0]
    monkeypatch.setattr(Translator, "stream", nudged)
    assert verdicts()[0] is False
    monkeypatch.setattr(selftest, "_CLOSE", math.inf)
    assert verdicts() == [False, True]
    monkeypatch.setattr(Translator, "stream", lambda self, lines, *_: nudged(self, lines, by=math.nan))
    assert verdicts() == [False, False]


def test_a_trial_begins_as_training_does(tiny_run: Path, toy_text: Path, mt: Mt, tmp_path: Path) -> None:
    """With the weights of ``start_from``, until the run has begun: then they need not be there any more."""
    origin, path = shutil.copytree(tiny_run, tmp_path / "origin"), tmp_path / "fine.yaml"
    training = {"start_from": str(origin), "max_steps": 1}
    tokenizer = {"from": str(origin)}
    tree = toy_tree(toy_text, tmp_path / "run", training=training) | {"tokenizer": tokenizer}
    path.write_text(yaml.safe_dump(tree))
    assert mt("tokenize", path).code == 0
    config = load_config(path)
    weights = Checkpoints(origin / "checkpoints").weights(Checkpoints(origin / "checkpoints").resolve("best"))
    trainer = make_trainer(*make_trial(config, tmp_path / "trial"), time.monotonic())
    assert all(torch.equal(weight, weights[name]) for name, weight in model_weights(trainer.model).items())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert mt("train", path).code == 0
    shutil.rmtree(origin)
    trainer = make_trainer(*make_trial(config, tmp_path / "another"), time.monotonic())
    assert trainer.progress.step == 0
    assert RunDirectory(tmp_path / "another").metrics.exists()


def told(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Wait for the end of a self-test; return stdout, and the last line of stderr, the only one about an error."""
    out, errors = process.communicate(timeout=PATIENCE)
    lines = errors.decode().splitlines()
    assert "Traceback" not in errors.decode() and "Process Spawn" not in errors.decode(), errors
    assert [line for line in lines if line.startswith("error:")] == lines[-1:]
    return out.decode(), lines[-1]


def test_what_ends_a_sitting_is_told_in_a_line(mt: Mt, start_mt: Start, toy_config: Write, tmp_path: Path) -> None:
    """Here a limit of file sizes, in the sitting that is to be killed later."""
    config = toy_config()
    assert mt("tokenize", config).code == 0
    process = start_mt(
        "selftest", config, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    )
    out, line = told(process)
    assert (process.returncode, out) == (6, "")
    assert "File too large; raise the limit of file sizes (ulimit -f)" in line
    assert not list((tmp_path / "run").glob(".selftest-*"))


@pytest.mark.parametrize(("number", "group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_a_signal_ends_it_and_nothing_is_left(
    mt: Mt, start_mt: Start, toy_config: Write, tmp_path: Path, number: int, group: bool, code: int
) -> None:
    """Ctrl-C, which the sitting gets, too, and SIGTERM; until then nobody else may touch the directory."""
    config, run = toy_config(), tmp_path / "run"
    process = start_mt("selftest", config, start_new_session=True)
    wait_for(lambda: list(run.glob(".selftest-*/killed/metrics.jsonl")), process)
    children = workers(process)
    assert len(children) == 1
    for command in (["selftest"], ["train", "--overwrite"], ["tokenize"]):
        failed(mt(*command, config), 6, f"in use by process {process.pid}")
    assert len(list(run.glob(".selftest-*"))) == 1
    os.killpg(process.pid, number) if group else process.send_signal(number)
    out, line = told(process)
    assert (process.returncode, out) == (code, ""), line
    assert not list(run.glob(".selftest-*"))
    assert not any(Path(f"/proc/{child}").exists() for child in children)

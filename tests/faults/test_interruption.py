"""Training that is interrupted at any moment goes on as if nothing had happened: weights, optimizer, metrics."""

import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PATIENCE, Mt, toy_tree, wait_for, write_lines

Start = Callable[..., "subprocess.Popen[bytes]"]
Write = Callable[..., Path]

KILLS = int(os.environ.get("KILLS", "20"))  # of the slow test
ENDLESS = {"max_steps": 1_000_000, "validate_every": 1_000_000, "save_every": 1_000_000, "log_every": 1}
TRAINING = {"max_steps": 47, "save_every": 5, "validate_every": 10, "log_every": 3, "subword_sampling": 0.2}


def events(run: Path) -> list[dict[str, Any]]:
    """The lines of the metrics file, without what differs from run to run: times."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    timeless = {"seconds", "target_tokens_per_second"}
    return [{key: value for key, value in json.loads(line).items() if key not in timeless} for line in lines]


def state(run: Path, name: str) -> dict[str, Any]:
    """All that a checkpoint holds: the bytes of the tensors, and the progress but for the time that it took."""
    folder = run / "checkpoints" / name
    progress = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    progress.pop("seconds")
    progress["tally"].pop("seconds")
    tensors = {file: (folder / file).read_bytes() for file in ("model.safetensors", "optimizer.safetensors")}
    return {**progress, **tensors}


def pointed(run: Path, pointer: str) -> str:
    """The checkpoint that ``last`` or ``best`` means; nothing when there is none."""
    path = run / "checkpoints" / pointer
    return path.read_text(encoding="utf-8").split()[0] if path.exists() else ""


def equal(run: Path, whole: Path) -> None:
    """Assert that a run that was interrupted has become the one that was not."""
    assert events(run) == events(whole)
    for pointer in ("last", "best"):
        assert pointed(run, pointer) == pointed(whole, pointer)
    name = pointed(whole, "last")
    assert state(run, name) == state(whole, name)
    assert not list((run / "checkpoints").glob(".*"))


def test_a_signal_gives_a_validation_up_and_the_next_sitting_makes_it_good(
    mt: Mt, start_mt: Start, toy_text: Path, toy_config: Write, tmp_path: Path
) -> None:
    """A preempted machine gives 30 seconds; a validation may take minutes."""
    many = [line for side in ("xx", "yy") for line in (toy_text / f"train.{side}").read_text().splitlines() * 4]
    half = len(many) // 2
    valid = {"source": str(write_lines(tmp_path / "v.xx", many[:half])),
             "target": str(write_lines(tmp_path / "v.yy", many[half:]))}  # fmt: skip
    training = {**TRAINING, "log_every": 1, "validate_every": 4, "save_every": 1_000}
    config, run = toy_config(data={"valid": valid}, training=training), tmp_path / "run"
    process = start_mt("train", config)
    wait_for(lambda: any(event["step"] == 4 for event in events(run)), process)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, errors
    assert time.monotonic() - begun < 10
    assert [event["event"] for event in events(run)] == ["train"] * 4
    assert json.loads((run / "exit.json").read_text()) == {"code": 143, "reason": "SIGTERM", "step": 4}
    resumed = mt("train", run, "--resume", "--set", "training.max_steps=5", "--set", "training.average=false")
    assert resumed.code == 0, resumed.err
    assert [(event["event"], event["step"]) for event in events(run)][4:] == [("valid", 4), ("train", 5), ("valid", 5)]


def test_usr1_saves_and_training_goes_on(start_mt: Start, toy_config: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_mt("train", toy_config(training=ENDLESS))
    wait_for(lambda: len(events(run)) >= 3, process)
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: pointed(run, "last") != "", process)
    saved = int(pointed(run, "last").removeprefix("step-"))
    wait_for(lambda: len(events(run)) > saved + 1, process)
    assert process.poll() is None
    assert pointed(run, "best") == ""


def test_usr1_before_training_has_begun_does_not_end_it() -> None:
    """The imports of a training take seconds; here nothing is imported yet."""
    program = (
        "import os, signal, sys\nfrom transformer_mt import __main__ as mt\n"
        "run = mt.run\nmt.run = lambda words: (os.kill(os.getpid(), signal.SIGUSR1), run(words))[1]\nmt.main()\n"
    )
    command = [sys.executable, "-c", program, "--debug", "train", "--help"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE).returncode == 0


def test_a_terminal_that_is_closed_ends_training_after_saving(
    start_mt: Start, toy_config: Write, tmp_path: Path
) -> None:
    """A connection that is lost: SIGHUP comes, and nothing can be said any more."""
    run, (ours, theirs) = tmp_path / "run", pty.openpty()
    process = start_mt(
        "train", toy_config(training=ENDLESS), stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    wait_for(lambda: len(events(run)) >= 3, process)
    os.close(ours)
    assert process.wait(PATIENCE) == 129
    ending = json.loads((run / "exit.json").read_text())
    assert (ending["code"], ending["reason"]) == (129, "SIGHUP")
    assert pointed(run, "last") == f"step-{ending['step']:06}"


def test_nohup_is_respected_and_a_log_that_is_full_does_no_harm(
    start_mt: Start, toy_config: Write, tmp_path: Path
) -> None:
    """``nohup mt train … 2> LOG``: SIGHUP is ignored, and no line that is lost ends it or changes its code."""
    run = tmp_path / "run"
    with Path("/dev/full").open("wb") as full:
        process = start_mt(
            "train", toy_config(training=ENDLESS), stderr=full,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )  # fmt: skip
    wait_for(lambda: len(events(run)) >= 3, process)
    process.send_signal(signal.SIGHUP)
    known = len(events(run))
    wait_for(lambda: len(events(run)) > known + 3, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143


HANGS = """import time
from transformer_mt import __main__ as mt
from transformer_mt.training.trainer import Trainer

def update(self, buckets, step, tally, update=Trainer.update):
    if step == 5:
        open({mark!r}, "w").close()
        time.sleep(1000)
    update(self, buckets, step, tally)

Trainer.update = update
mt.main()
"""


def test_a_second_ctrl_c_ends_it_at_once(
    start_session: Callable[..., "subprocess.Popen[str]"], toy_config: Write, tmp_path: Path
) -> None:
    """The first is stuck: the step that it waits for does not end."""
    run, script, mark = tmp_path / "run", tmp_path / "hangs.py", tmp_path / "mark"
    script.write_text(HANGS.format(mark=str(mark)))
    training = {"max_steps": 1_000_000, "validate_every": 1_000_000, "save_every": 2, "log_every": 1}
    process = start_session([sys.executable, script, "train", toy_config(training=training)], text=True)
    wait_for(mark.exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begun < 10
    assert process.returncode == 130
    assert [line for line in errors.split("\n") if line.startswith("error:")] == ["error: interrupted"]
    assert json.loads((run / "exit.json").read_text()) == {"code": 130, "reason": "SIGINT", "step": 4}
    assert pointed(run, "last") == "step-000004"


def test_a_signal_while_a_checkpoint_is_written_leaves_it_whole(
    mt: Mt, start_mt: Start, toy_config: Write, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    model = {"width": 256, "feed_forward": 2048, "layers": 2, "heads": 4}
    training = {"max_steps": 1_000_000, "validate_every": 1_000_000, "save_every": 1, "log_every": 1}
    process = start_mt("train", toy_config(model=model, training=training))
    wait_for(lambda: bool(list((run / "checkpoints").glob(".step-*.tmp"))), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, errors
    step = json.loads((run / "exit.json").read_text())["step"]
    assert pointed(run, "last") == f"step-{step:06}"
    result = mt("train", run, "--resume", "--set", f"training.max_steps={step + 1}")
    assert result.code == 0, result.err


def _moved(process: "subprocess.Popen[bytes]", run: Path, known: int) -> bool:
    """Whether a run has told of more than is ``known``, or ended."""
    return len(events(run)) != known or process.poll() is not None


def killed_at_random(start_mt: Start, config: Path, run: Path, kills: int, seed: int) -> int:
    """Train with ``kills`` SIGKILLs of the whole process group at random moments; return how many hit it alive."""
    draw, hits = random.Random(seed), 0
    process = start_mt("train", config, start_new_session=True)
    for number in range(kills):
        # Some in the seconds of the start, most while it trains, validates and saves.
        if number % 4:
            wait_for(partial(_moved, process, run, len(events(run))))
        time.sleep(draw.expovariate(1 / 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hits += 1
        process.communicate()
        process = start_mt("train", config, "--resume", start_new_session=True)
    _, errors = process.communicate(timeout=10 * PATIENCE)
    assert process.returncode == 0, errors
    return hits


@pytest.mark.parametrize(
    ("kills", "steps"), [(4, 47), pytest.param(KILLS, 60 * KILLS, marks=pytest.mark.slow, id="many")]
)
def test_a_run_killed_at_random_moments_becomes_the_one_that_was_not(
    mt: Mt, start_mt: Start, toy_text: Path, toy_config: Write, tmp_path: Path, kills: int, steps: int
) -> None:
    """With dropout and subword sampling, bit by bit; no moment leaves a run that cannot be resumed."""
    training, whole = {**TRAINING, "max_steps": steps}, tmp_path / "whole"
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(toy_tree(toy_text, whole, training=training)))
    assert mt("train", tmp_path / "whole.yaml").code == 0
    assert killed_at_random(start_mt, toy_config(training=training), tmp_path / "run", kills, kills) >= kills // 2
    equal(tmp_path / "run", whole)


def test_settings_edited_inside_the_run_are_noticed(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    """Its configuration file says what was, so that it cannot tell; the newest checkpoint can."""
    run = tmp_path / "run"
    assert mt("train", toy_config(training={"max_steps": 2, "validate_every": 2, "average": False})).code == 0
    edited = (run / "config.yaml").read_text().replace("dropout: 0.1", "dropout: 0.2").replace("seed: 1", "seed: 4")
    (run / "config.yaml").write_text(edited)
    result = mt("train", run, "--resume", "--set", "training.max_steps=4")
    assert result.code == 4
    assert "model.dropout is 0.2 but was 0.1, seed is 4 but was" in result.errors[0]

"""Proof, on the user's own machine and configuration, that what is promised holds: nothing is lost by a kill."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from transformer_mt.checkpoint import Checkpoints, load_weights, model_weights
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device
from transformer_mt.errors import MtError
from transformer_mt.experiment.run import make_batches
from transformer_mt.experiment.tokenization import tokenize
from transformer_mt.rundir import RunDirectory
from transformer_mt.terminal import mute, say
from transformer_mt.training.metrics import Metrics, Validation
from transformer_mt.training.trainer import Trainer, derive_seed
from transformer_mt.translate import Translator, make_model

_SAVE_EVERY, _KILL_AT, _STEPS = 3, 8, 12
_LINES = 24  # translated alone and together
_CLOSE = 1e-4  # scores; on a GPU weights, too, where sums have no fixed order
_TIMES = {"seconds", "target_tokens_per_second"}


@dataclass(frozen=True)
class Check:
    """What was tried, whether it held, and what was seen."""

    name: str
    passed: bool
    seen: str


def selftest(config: Config) -> Iterator[Check]:
    """Try a run that is killed and resumed beside one that is not, saving and loading, and translating in batches.

    The token store is made if there is none; all else is done in a scratch folder of the run directory.
    """
    tokenize(config)
    root = RunDirectory(Path(config.run_dir)).root
    for left in root.glob(".selftest-*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    say("training, killing, resuming …")
    scratch = Path(tempfile.mkdtemp(prefix=".selftest-", dir=root))
    try:
        killed, whole = scratch / "killed", scratch / "whole"
        _apart(config, killed, kill=True)
        saved = Checkpoints(killed).newest()
        _apart(config, killed)
        _apart(config, whole)
        yield _compared(f"killed in step {_KILL_AT}, resumed from {saved}, step {_STEPS}", killed, whole, config)
        yield from _translated(config, whole)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _apart(config: Config, folder: Path, *, kill: bool = False) -> None:
    """Train in a process of its own, as every sitting is; let it ``kill`` itself on the way."""
    process = get_context("spawn").Process(target=_train, args=(config, folder, kill), daemon=True)
    process.start()
    process.join()
    if process.exitcode != (-signal.SIGKILL if kill else 0):
        raise MtError("the training of the self-test ended early; see above why")


def _train(config: Config, folder: Path, kill: bool) -> None:
    """Train a model of the configuration, or on from what ``folder`` holds, without validating."""
    mute(muted=True)
    limits = {"max_steps": _STEPS, "max_epochs": None, "max_minutes": None, "patience": None, "average": False}
    often = {"save_every": _SAVE_EVERY, "log_every": 1, "validate_every": 1_000_000}
    settings = config.training.model_copy(update={**limits, **often, "tensorboard": False})
    paths, device = RunDirectory(Path(config.run_dir)), choose_device(config.device)
    tokenizer, checkpoints = Tokenizer.load(paths.tokenizer), Checkpoints(folder)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = make_model(config.model, tokenizer)
    name = checkpoints.newest()
    step = 0
    if name is not None:
        step = int(checkpoints.manifest(name)["step"])
        load_weights(model, checkpoints.weights(name), name)
    model.to(device)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(
        model, make_batches(config, paths, tokenizer), settings, checkpoints, Metrics(folder / "metrics.jsonl", step),
        _no_validation, seed=config.seed, about={}, started=time.monotonic(),
    )  # fmt: skip
    if name is not None:
        trainer.resume(name)
    update = trainer.update

    def fatal(*arguments: Any) -> None:
        update(*arguments)
        if trainer.progress.step + 1 == _KILL_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill:
        trainer.update = fatal  # type: ignore[method-assign, assignment]
    trainer.run()


def _no_validation(go_on: Callable[[], None]) -> Validation:
    return Validation(0.0, 0.0, "", [])


def _events(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the metrics file about training, without times."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    events = [event for event in map(json.loads, lines) if event["event"] == "train"]
    return [{key: value for key, value in event.items() if key not in _TIMES} for event in events]


def _compared(what: str, killed: Path, whole: Path, config: Config) -> Check:
    """Weights, optimizer, progress and metrics of both runs: equal on a CPU, close on a GPU."""
    name = f"step-{_STEPS:06}"
    (optimizer, progress), (optimizer_, progress_) = (Checkpoints(folder).training(name) for folder in (killed, whole))
    tensors = {**Checkpoints(killed).weights(name), **optimizer}
    tensors_ = {**Checkpoints(whole).weights(name), **optimizer_}
    difference = max(float((tensors[key] - tensors_[key]).abs().max()) for key in tensors_)
    if choose_device(config.device).type != "cpu":
        return Check("exact resume", difference < _CLOSE, f"{what}: weights differ by {difference:.1g} at most")
    for state in (progress, progress_):
        state.pop("seconds")
        state["tally"].pop("seconds")
    equal = difference == 0 and progress == progress_ and _events(killed) == _events(whole)
    seen = "weights, optimizer, progress and metrics are equal bit by bit" if equal else f"differ by {difference:.1g}"
    return Check("exact resume", equal, f"{what}: {seen}")


def _translated(config: Config, folder: Path) -> Iterator[Check]:
    """Translations by the weights that were saved: after loading again, alone, and among others."""
    paths, device = RunDirectory(Path(config.run_dir)), choose_device(config.device)
    tokenizer, checkpoints = Tokenizer.load(paths.tokenizer), Checkpoints(folder)
    name = checkpoints.resolve("last")
    model = make_model(config.model, tokenizer).to(device)
    load_weights(model, checkpoints.weights(name), name)
    checkpoints.save("step-999999", model_weights(model), {"step": 0})
    again = checkpoints.weights("step-999999")
    equal = all(torch.equal(value, again[key]) for key, value in checkpoints.weights(name).items())
    yield Check("save and load", equal, f"{len(again)} tensors are {'equal' if equal else 'not equal'}")
    translator = Translator(model.eval(), tokenizer, config.decoding, device)
    first = next(iter(prepare.set_names(paths.data, "valid")))
    lines = [line for line in prepare.evaluation_set(paths.data, first)[0] if line.strip()][:_LINES]
    together = [found[0] for found in translator.stream([*lines, " ".join(lines)])][: len(lines)]
    alone = [next(iter(translator.stream([line])))[0] for line in lines]
    difference = max(abs(a.score - b.score) for a, b in zip(alone, together, strict=True))
    same = [a.text for a in alone] == [b.text for b in together] and difference < _CLOSE
    verdict = f"translations are {'equal' if same else 'not equal'}, scores differ by {difference:.1g} at most"
    yield Check("batch invariance", same, f"{len(lines)} lines alone and beside a long one: {verdict}")


def report(checks: Iterator[Check]) -> None:
    """Print each check as it comes. Raises MtError when one has failed."""
    failed = []
    for check in checks:
        print(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.seen}", flush=True)
        failed += [] if check.passed else [check.name]
    if failed:
        raise MtError(f"the self-test failed: {', '.join(failed)}; report it with the lines above")
    say("all of it holds here")

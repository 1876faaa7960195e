"""Proof, on the user's own machine and configuration, that what is promised holds: nothing is lost by a kill."""

import json
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_mt.checkpoint import MODEL, OPTIMIZER, TRAINING, Checkpoints, load_weights, model_weights
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device
from transformer_mt.errors import MtError, SystemFault
from transformer_mt.experiment.run import make_trainer, make_trial
from transformer_mt.experiment.tokenization import tokenized
from transformer_mt.parallel import apart
from transformer_mt.rundir import RunDirectory
from transformer_mt.terminal import mute, say
from transformer_mt.training.metrics import Validation
from transformer_mt.training.trainer import Trainer
from transformer_mt.translate import Translator, make_model

_VALIDATE_EVERY, _SAVE_EVERY, _KILL_AT, _STEPS = 2, 3, 8, 12
_LINES = 24  # translated alone and together
_CLOSE = 1e-4  # scores in low precision; on a GPU weights, too, where sums have no fixed order
_TIMES = {"seconds", "target_tokens_per_second"}
_KILLED = "killed"  # a file that tells a kill of ours from any other


@dataclass(frozen=True)
class Check:
    """What was tried, whether it held, and what was seen."""

    name: str
    passed: bool
    seen: str


def selftest(config: Config) -> Iterator[Check]:
    """Try a run that is killed and resumed beside one that is not, saving and loading, and translating in batches.

    The token store is made if there is none; all else is done in a scratch folder of the run directory, under its lock.
    """
    with tokenized(config) as paths:
        for left in paths.root.glob(".selftest-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        say("training, killing, resuming …")
        with tempfile.TemporaryDirectory(prefix=".selftest-", dir=paths.root, ignore_cleanup_errors=True) as scratch:
            killed, whole = Path(scratch) / "killed", Path(scratch) / "whole"
            saved = _kill(config, killed)
            for folder in (killed, whole):
                apart(partial(_train, config, folder), False)
            yield _compared(f"killed in step {_KILL_AT}, resumed from {saved}, step {_STEPS}", killed, whole, config)
            yield from _translated(config, whole)


def _kill(config: Config, folder: Path) -> str | None:
    """Train in a process that is killed on the way; return the checkpoint that is left."""
    try:
        apart(partial(_train, config, folder), True)
    except SystemFault:
        if not (folder / _KILLED).exists():
            raise
    return Checkpoints(RunDirectory(folder).checkpoints).newest()


def _train(config: Config, folder: Path, kill: bool) -> None:
    """Train as ``mt train`` does, from the beginning or on from what ``folder`` holds, but for the validation."""
    mute(muted=True)
    limits = {"max_steps": _STEPS, "max_epochs": None, "max_minutes": None, "patience": None}
    often = {"log_every": 1, "save_every": _SAVE_EVERY, "validate_every": _VALIDATE_EVERY, "keep_last": 3}
    others = {"average": True, "best_by": "nll", "tensorboard": False}
    config, paths = make_trial(config, folder)
    settings = config.training.model_copy(update={**limits, **often, **others})
    folder.mkdir(exist_ok=True)
    trainer = make_trainer(config.model_copy(update={"training": settings}), paths, time.monotonic())
    trainer.validate = partial(_validation, trainer)
    if kill:
        trainer.update = partial(_fatal, trainer.update, folder / _KILLED)  # type: ignore[method-assign]
    trainer.run()


def _fatal(update: Callable[..., None], mark: Path, buckets: Any, step: int, tally: Any) -> None:
    update(buckets, step, tally)
    if step == _KILL_AT:
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _validation(trainer: Trainer, go_on: Callable[[], None]) -> Validation:
    """A quick one: the first is good, the others get worse and worse, but the last one and the average are the best."""
    return Validation(nll=float(trainer.progress.step % _STEPS), bleu=0.0, signature="", samples=[])


def _left(folder: Path) -> dict[str, Any]:
    """What a run has left, without times; of tensors, the SHA-256 of their file."""
    checkpoints = Checkpoints(RunDirectory(folder).checkpoints)
    left: dict[str, Any] = {pointer: checkpoints.resolve(pointer) for pointer in ("last", "best")}
    for name in {*checkpoints.names(), left["best"]}:
        files = checkpoints.manifest(name)["files"]
        left |= {f"{name}/{file}": files[file] for file in (MODEL, OPTIMIZER) if file in files}
        if TRAINING in files:
            _, progress = checkpoints.training(name)
            left[f"{name}/{TRAINING}"] = _timeless({**progress, "tally": _timeless(progress["tally"])})
    metrics = RunDirectory(folder).metrics
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    return {**left, metrics.name: [_timeless(json.loads(line)) for line in lines]}


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in _TIMES}


def _compared(what: str, killed: Path, whole: Path, config: Config) -> Check:
    """All that both runs have left: equal on a CPU; on a GPU the last weights and their optimizer, close."""
    if choose_device(config.device).type != "cpu":
        difference = _distance(*(_last(folder) for folder in (killed, whole)))
        seen = f"weights and optimizer differ by {difference:.1g} at most"
        return Check("exact resume", difference < _CLOSE, f"{what}: {seen}")
    left, left_ = _left(killed), _left(whole)
    differ = sorted(key for key in {*left, *left_} if left.get(key) != left_.get(key))
    equal = "weights, optimizer, progress, metrics, best and average are equal bit by bit"
    seen = f"not equal: {', '.join(differ)}" if differ else equal
    return Check("exact resume", not differ, f"{what}: {seen}")


def _last(folder: Path) -> dict[str, Tensor]:
    """The last weights and their optimizer's tensors."""
    checkpoints = Checkpoints(RunDirectory(folder).checkpoints)
    name = checkpoints.resolve("last")
    return {**checkpoints.weights(name), **checkpoints.training(name)[0]}


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """How much any number differs: NaN where one is, infinity where one has tensors that the other has not."""
    if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
        return math.inf
    return _most((value.float() - theirs[key].float()).abs().max() for key, value in ours.items())


def _most(values: Iterator[Tensor | float]) -> float:
    """The largest; NaN if one is, which Python's ``max`` may drop."""
    return float(torch.tensor([float(value) for value in values], dtype=torch.float64).max())


def _translated(config: Config, folder: Path) -> Iterator[Check]:
    """Translations by the weights that were saved: after loading again, alone, and among others."""
    paths, device = RunDirectory(Path(config.run_dir)), choose_device(config.device)
    tokenizer, checkpoints = Tokenizer.load(paths.tokenizer), Checkpoints(RunDirectory(folder).checkpoints)
    name = checkpoints.resolve("last")
    weights, model = checkpoints.weights(name), make_model(config.model, tokenizer).to(device)
    load_weights(model, weights, name)
    checkpoints.save("again", model_weights(model), {"step": 0})
    files, files_ = (checkpoints.manifest(saved)["files"] for saved in (name, "again"))
    equal = files[MODEL] == files_[MODEL]
    yield Check("save and load", equal, f"{len(weights)} tensors are {'equal' if equal else 'not equal'}")
    translator = Translator(model.eval(), tokenizer, config.decoding, device)
    first = next(iter(prepare.set_names(paths.data, "valid")))
    lines = [line for line in prepare.evaluation_set(paths.data, first)[0] if line.strip()][:_LINES]
    batch = [*lines, " ".join(lines)]
    together = [found[0] for found in translator.stream(batch)][: len(lines)]
    alone = [next(iter(translator.stream([line])))[0] for line in lines]
    texts = translator.translate(batch)[: len(lines)]  # without scores, greedy search takes another way
    difference = _most(abs(a.score - b.score) for a, b in zip(alone, together, strict=True))
    exact = device.type == "cpu" and config.decoding.precision == "float32"
    equal = texts == [a.text for a in alone] == [b.text for b in together]
    same = equal and difference <= (0 if exact else _CLOSE)
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

"""A run from its configuration to its end: claim the directory, tokenize, train, validate, say how it ended."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data import prepare
from transformer_mt.data.batching import Batches
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device
from transformer_mt.errors import ArtefactError, ConfigError, DataError, Interrupted, MtError, system_fault
from transformer_mt.evaluate import bleu_metric, corpus_scores, mean_nll
from transformer_mt.rundir import RunDirectory, sha256, write_atomically
from transformer_mt.terminal import bar, say
from transformer_mt.training.metrics import Metrics, Validation, duration
from transformer_mt.training.trainer import Trainer, derive_seed
from transformer_mt.translate import Translator, make_model, tokenizer_hash

# What may differ when a run is resumed: limits, intervals and where it is computed. The rest is the experiment.
_FREE = {
    "training": {"max_steps", "max_epochs", "max_minutes", "patience", "log_every", "save_every", "validate_every",
                 "keep_last", "average", "samples"},
}  # fmt: skip
_FREE_SECTIONS = {"device", "run_dir", "decoding", "data"}  # of data, the fingerprint of the store knows more


def tokenize(config: Config) -> None:
    """Learn the tokenizer and write the token store of a run, unless both are there and their inputs unchanged."""
    paths = RunDirectory(Path(config.run_dir))
    paths.claim(resume=True)
    with paths.lock():
        if paths.holds_run():
            _refuse_changes(config, paths)
        _prepare(config, paths)


def _prepare(config: Config, paths: RunDirectory) -> None:
    """Make tokenizer and store, or find them made. Raises ArtefactError when a started run would change under us."""
    manifest = prepare.read_manifest(paths.data)
    started = paths.holds_run()
    known = None if manifest is None else manifest["fingerprint"]
    # A started run goes on without its original files: the store suffices.
    prints = prepare.fingerprint(config, known, may_miss=started)
    if manifest is not None and Tokenizer.files(paths.tokenizer):
        changed = prepare.difference(manifest["fingerprint"], prints)
        tokenizer = tokenizer_hash(paths.tokenizer)
        if not changed and manifest.get("tokenizer", tokenizer) != tokenizer:
            changed = "the files of the tokenizer"
        if not changed:
            say(f"token store: {manifest['pairs']:,} pairs, unchanged")
            write_atomically(paths.config, config.to_yaml())
            return
        if started:
            raise ArtefactError(f"{paths.root}: the run was started with other data or tokenizer ({changed} differ)")
    elif started:
        raise ArtefactError(f"{paths.data}: the token store is missing; the run cannot go on without it")
    write_atomically(paths.config, config.to_yaml())
    say("reading the corpora and learning the tokenizer …")
    begun = time.monotonic()
    try:
        with bar("encoding", None, "pairs") as progress:
            manifest = prepare.prepare(config, prints, paths.tokenizer, paths.data, progress)
    except OSError as error:
        raise system_fault(error) from error
    _say_what_was_read(manifest, time.monotonic() - begun)


def _say_what_was_read(manifest: dict[str, Any], seconds: float) -> None:
    vocabulary = " and ".join(f"{size:,}" for size in dict.fromkeys(manifest["vocabulary"].values()))
    say(f"token store: {manifest['pairs']:,} training pairs, vocabulary {vocabulary}, in {duration(seconds)}")
    for split, count in manifest["held_out"].items():
        say(f"  held out of training for {split}: {count:,} pairs (data.{split} is not given)")
    for rule, count in sorted(manifest["dropped"].items()):
        say(f"  dropped, {rule}: {count:,} pairs")


@dataclass
class _Ending:
    """How the run ended, for exit.json."""

    code: int = 1
    reason: str = "crashed"
    step: int = 0


def train(config: Config, *, resume: bool, started: float) -> None:
    """Train a run to its end. ``started`` is the ``time.monotonic()`` of the command's start.

    Raises Interrupted after saving, when a signal came.
    """
    paths = RunDirectory(Path(config.run_dir))
    paths.claim(resume=resume)
    with paths.lock():
        if resume:
            _refuse_changes(config, paths)
        _prepare(config, paths)
        ending = _Ending()
        try:
            _train(config, paths, ending, started, resume=resume)
        except KeyboardInterrupt:  # asked twice, or outside the loop
            ending.code, ending.reason = 130, "SIGINT"
            raise
        except (MtError, OSError) as error:
            fault = system_fault(error) if isinstance(error, OSError) else error
            ending.code = fault.code
            if not isinstance(error, Interrupted):  # then it is the name of the signal
                ending.reason = str(fault)
            raise fault from error
        finally:
            if paths.holds_run():
                write_atomically(paths.exit, json.dumps(vars(ending)) + "\n")


def _refuse_changes(config: Config, paths: RunDirectory) -> None:
    """Compare with the configuration of the run so far. Raises ArtefactError naming the differences."""
    if not paths.holds_run():
        return
    before, now = load_config(paths.root).model_dump(), config.model_dump()
    changed = []
    for section, value in now.items():
        if section in _FREE_SECTIONS:
            continue
        free = _FREE.get(section, set())
        pairs = (
            {f"{section}.{k}": (v, before[section][k]) for k, v in value.items() if k not in free}
            if isinstance(value, dict)
            else {section: (value, before[section])}
        )
        changed += [f"{key} is {new} but was {old}" for key, (new, old) in pairs.items() if new != old]
    if changed:
        raise ArtefactError(
            f"{paths.root}: cannot resume with other settings: {', '.join(changed)}; to go on as it was started: "
            f"mt train {paths.root} --resume"
        )


def _train(config: Config, paths: RunDirectory, ending: _Ending, started: float, *, resume: bool) -> None:
    tokenizer = Tokenizer.load(paths.tokenizer)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    device = choose_device(config.device)
    model = make_model(config.model, tokenizer)
    checkpoints = Checkpoints(paths.checkpoints)
    name = checkpoints.newest()
    step = 0
    if name is not None:
        step = int(checkpoints.manifest(name)["step"])
        load_weights(model, checkpoints.weights(name), name)
    model.to(device)
    translator = Translator(model, tokenizer, config.decoding.model_copy(update={"beam_size": 1}), device)
    store, validate = Store(paths.data), _validation(config, paths, translator)
    metrics = Metrics(paths.metrics, step)
    trainer = Trainer(
        model,
        Batches(store, config.training.batch_tokens, config.training.device_tokens, config.seed),
        config.training,
        checkpoints,
        metrics,
        validate,
        seed=config.seed,
        about={
            "tokenizer": tokenizer_hash(paths.tokenizer),
            "model": config.model.model_dump(),
            "config": sha256(paths.config),
        },
        started=started,
    )
    try:
        if name is not None:
            trainer.resume(name)
            if trainer.done() and trainer.progress.finished:
                ending.code, ending.reason, ending.step = 0, trainer.progress.finished["reason"], trainer.progress.step
                say(
                    f"the run is finished already ({ending.reason}, step {ending.step:,}); "
                    "to go on, raise its limit, such as --set training.max_steps=…"
                )
                return
            say(f"resuming after step {trainer.progress.step:,}")
        elif resume:
            say("nothing is saved yet; training starts from the beginning")
        parameters = sum(p.numel() for p in model.parameters())
        say(f"training {parameters / 1e6:.2f}M parameters on {device}, {str(trainer.precision).removeprefix('torch.')}")
        with _stop_on_signals(trainer) as caught:
            reason = trainer.run()
        ending.step = trainer.progress.step
        if caught and reason == "interrupted":
            ending.reason = signal.Signals(caught[0]).name
            raise Interrupted(
                f"stopped by {ending.reason} after step {ending.step:,}, saved; go on: mt train {paths.root} --resume",
                128 + caught[0],
            )
        ending.code, ending.reason = 0, reason
        metrics.note(f"finished: {reason}; step {ending.step:,}, {duration(trainer.progress.seconds)}; "
                     f"in {paths.root}")  # fmt: skip
    finally:
        ending.step = trainer.progress.step
        metrics.close()


@contextmanager
def _stop_on_signals(trainer: Trainer) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM end the training after its next step; yields the list of what came."""
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:  # asked twice: at once
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validation(config: Config, paths: RunDirectory, translator: Translator) -> Any:
    """The function that validates the model as it is: loss, and BLEU of greedy translations."""
    sources, references = prepare.evaluation_set(paths.data, "valid")
    if not any(source.strip() and target.strip() for source, target in zip(sources, references[0], strict=True)):
        raise DataError("data.valid: no pair has text on both sides")
    metric = bleu_metric(config.languages.target)
    shown = [n for n, line in enumerate(sources) if line.strip()]
    shown = shown[:: max(1, len(shown) // max(1, config.training.samples))][: config.training.samples]

    def validate() -> Validation:
        hypotheses = _translate(translator, sources, "validating")
        nll = mean_nll(translator, sources, references[0], config.training.device_tokens)
        bleu = metric.corpus_score(hypotheses, references)
        samples = [(sources[n], hypotheses[n], references[0][n]) for n in shown]
        return Validation(nll, float(bleu.score), str(metric.get_signature()), samples)

    return validate


def _translate(translator: Translator, sources: list[str], what: str) -> list[str]:
    with bar(what, len(sources), "sentences") as progress:
        return [best[0][0] for best in translator.stream(sources, progress=progress.advance)]


def evaluate(config: Config, checkpoint: str, split: str) -> dict[str, Any]:
    """Translate a split of a run and score it; the translations go to ``eval/SPLIT.hyp``."""
    paths = RunDirectory(Path(config.run_dir))
    if paths.config.exists() and getattr(load_config(paths.root).data, split) != getattr(config.data, split):
        raise ConfigError(f"data.{split}: differs from the run's own, which is what would be scored; score other files "
                          "by mt translate and sacrebleu")  # fmt: skip
    translator = Translator.from_config(config, checkpoint)
    sources, references = prepare.evaluation_set(paths.data, split)
    hypotheses = _translate(translator, sources, "translating")
    write_atomically(paths.eval / f"{split}.hyp", "".join(line + "\n" for line in hypotheses))
    scores = corpus_scores(hypotheses, references, config.languages.target)
    return {**scores, "checkpoint": Checkpoints(paths.checkpoints).resolve(checkpoint)}


def average(config: Config) -> str:
    """Average the checkpoints kept of a run into ``average-STEP``; return its name."""
    paths = RunDirectory(Path(config.run_dir))
    checkpoints = Checkpoints(paths.checkpoints)
    newest = checkpoints.resolve("last")
    with paths.lock():
        names = checkpoints.names()[-config.training.keep_last :]
        manifest = checkpoints.manifest(newest)
        name = f"average-{manifest['step']:06}"
        if (paths.checkpoints / name).exists():
            made_of = checkpoints.manifest(name).get("average_of", [])
            if made_of != names:
                raise ConfigError(f"{paths.checkpoints / name}: is there already, the average of {', '.join(made_of)}")
        about = {key: manifest[key] for key in ("step", "tokenizer", "model", "config")}
        checkpoints.save(name, checkpoints.average(names), {**about, "average_of": names})
    return name

"""A run from its configuration to its end: claim the directory, tokenize, train, validate, say how it ended."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from types import FrameType
from typing import Any

import torch

from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config, Source
from transformer_mt.config_file import load_config
from transformer_mt.data import prepare
from transformer_mt.data.batching import Batches, SubwordSampling
from transformer_mt.data.corpus import read_pairs
from transformer_mt.data.fingerprint import difference, fingerprint
from transformer_mt.data.sets import evaluation_set
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device, choose_precision
from transformer_mt.errors import ArtefactError, ConfigError, DataError, Interrupted, MtError, system_fault
from transformer_mt.evaluate import bleu_metric, corpus_scores, mean_nll
from transformer_mt.rundir import RunDirectory, sha256, write_atomically
from transformer_mt.terminal import bar, say, warn
from transformer_mt.training.fine_tuning import Origin
from transformer_mt.training.metrics import Metrics, Validation, duration, summary_writer
from transformer_mt.training.trainer import Trainer, derive_seed
from transformer_mt.translate import Translator, make_model, tokenizer_hash

# What may differ when a run is resumed: limits, intervals and where it is computed. The rest is the experiment.
_FREE = {
    "training": {"max_steps", "max_epochs", "max_minutes", "patience", "log_every", "save_every", "validate_every",
                 "keep_last", "average", "samples", "tensorboard"},
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
    prints = fingerprint(config, known, may_miss=started)
    if manifest is not None and Tokenizer.files(paths.tokenizer):
        changed = difference(manifest["fingerprint"], prints)
        tokenizer = tokenizer_hash(paths.tokenizer)
        if not changed and manifest.get("tokenizer", tokenizer) != tokenizer:
            changed = "the files of the tokenizer"
        if not changed:
            say(f"token store: {manifest['pairs']:,} pairs, unchanged")
            write_atomically(paths.config, config.to_yaml())
            return
        if started:
            raise ArtefactError(
                f"{paths.root}: the run was started with other data or tokenizer ({changed} differ); train in another "
                "run_dir, or start anew with --overwrite"
            )
    elif started:
        raise ArtefactError(f"{paths.data}: the token store is missing; the run cannot go on without it")
    write_atomically(paths.config, config.to_yaml())
    say("reading the corpora …")
    begun = time.monotonic()
    try:
        manifest = prepare.prepare(config, prints, paths.tokenizer, paths.data)
    except OSError as error:
        raise system_fault(error) from error
    _say_what_was_read(manifest, time.monotonic() - begun)


def _say_what_was_read(manifest: dict[str, Any], seconds: float) -> None:
    vocabulary = " and ".join(f"{size:,}" for size in dict.fromkeys(manifest["vocabulary"].values()))
    say(f"token store: {manifest['pairs']:,} training pairs, vocabulary {vocabulary}, in {duration(seconds)}")
    for split, count in manifest["held_out"].items():
        say(f"  held out of training for {split}: {count:,} pairs (data.{split} is not given)")
    for rule, drop in manifest["dropped"].items():
        say(f"  dropped, {rule}: {drop['pairs']:,} pairs, such as {_example(drop['examples'][0])}")
    if manifest["leaks"]:
        warn(f"{manifest['leaks']:,} training pairs are in the validation or test set, too: scores will flatter; to "
             "drop them, add leaks to data.drop")  # fmt: skip


def _example(example: dict[str, str]) -> str:
    source, target = (shorten(example[side], 40, placeholder="…") for side in ("source", "target"))
    return f"{example['place']}: {source!r} = {target!r}"


@dataclass
class _Ending:
    """How the run ended, for exit.json."""

    code: int = 1
    reason: str = "crashed"
    step: int = 0


def train(config: Config, *, resume: bool, overwrite: bool, started: float) -> None:
    """Train a run to its end. ``started`` is the ``time.monotonic()`` of the command's start.

    Raises Interrupted after saving, when a signal came.
    """
    paths = RunDirectory(Path(config.run_dir))
    paths.claim(resume=resume or overwrite)
    with paths.lock():
        if overwrite:
            paths.clear()
        if resume:
            _refuse_changes(config, paths)
        _refuse_impossible(config, paths)
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


def _refuse_impossible(config: Config, paths: RunDirectory) -> None:
    """Look for what training would stumble over, before the text is read. Raises ConfigError."""
    settings = config.training
    choose_precision(settings.precision, choose_device(config.device))
    if settings.tensorboard:
        summary_writer()
    if settings.start_from is not None and not Checkpoints(paths.checkpoints).names():
        Origin(settings.start_from, config.model)


def _train(config: Config, paths: RunDirectory, ending: _Ending, started: float, *, resume: bool) -> None:
    tokenizer = Tokenizer.load(paths.tokenizer)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    device = choose_device(config.device)
    model = make_model(config.model, tokenizer)
    checkpoints = Checkpoints(paths.checkpoints)
    name = checkpoints.newest()
    step, start_from = 0, None
    if name is not None:
        manifest = checkpoints.manifest(name)
        step, start_from = int(manifest["step"]), manifest.get("start_from")
        load_weights(model, checkpoints.weights(name), name)
    elif config.training.start_from is not None:
        origin = Origin(config.training.start_from, config.model)
        origin.start(model, tokenizer)
        start_from = origin.about
    model.to(device)
    translator = Translator(model, tokenizer, config.decoding.model_copy(update={"beam_size": 1}), device)
    batches, validate = make_batches(config, paths, tokenizer), _validation(config, paths, translator)
    metrics = Metrics(paths.metrics, step, paths.root / "tensorboard" if config.training.tensorboard else None)
    trainer = Trainer(
        model,
        batches,
        config.training,
        checkpoints,
        metrics,
        validate,
        seed=config.seed,
        about={
            "tokenizer": tokenizer_hash(paths.tokenizer),
            "model": config.model.model_dump(),
            "config": sha256(paths.config),
            **({"start_from": start_from} if start_from else {}),
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
                     f"{_best(config, checkpoints, trainer.progress.best)}in {paths.root}")  # fmt: skip
    finally:
        ending.step = trainer.progress.step
        metrics.close()


def make_batches(config: Config, paths: RunDirectory, tokenizer: Tokenizer) -> Batches:
    """The training pairs, as often and in such pieces as is configured."""
    settings, manifest = config.training, prepare.read_manifest(paths.data) or {}
    sampling = SubwordSampling(tokenizer, settings.subword_sampling, config.data.max_length)
    return Batches(
        Store(paths.data),
        settings.batch_tokens,
        settings.device_tokens,
        config.seed,
        visits=[(corpus["pairs"], corpus["weight"]) for corpus in manifest.get("corpora", [])],
        sampling=sampling if settings.subword_sampling else None,
    )


def _best(config: Config, checkpoints: Checkpoints, score: float | None) -> str:
    """Which checkpoint is the best, and how good; nothing when none is."""
    if score is None:
        return ""
    shown = f"BLEU {score:.2f}" if config.training.best_by == "bleu" else f"nll {-score:.4f}"
    return f"best {checkpoints.resolve('best')} ({shown}); "


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
    """The function that validates the model as it is: loss, and BLEU of greedy translations.

    Of several sets the first decides which checkpoint is best.
    """
    sets = {name: evaluation_set(paths.data, name) for name in prepare.set_names(paths.data, "valid")}
    for name, (sources, references) in sets.items():
        if not any(source.strip() and target.strip() for source, target in zip(sources, references[0], strict=True)):
            raise DataError(f"data.{name}: no pair has text on both sides; give other text")
    metric = bleu_metric(config.languages.target)
    first, *_ = sets
    sources, [gold] = sets[first]
    shown = [n for n, line in enumerate(sources) if line.strip()]
    shown = shown[:: max(1, len(shown) // max(1, config.training.samples))][: config.training.samples]

    def validate() -> Validation:
        hypotheses = {name: _translate(translator, sources, "validating") for name, (sources, _) in sets.items()}
        scores = {
            name: {
                "nll": mean_nll(translator, sources, references[0], config.training.device_tokens),
                "bleu": float(metric.corpus_score(hypotheses[name], references).score),
            }
            for name, (sources, references) in sets.items()
        }
        samples = [(sources[n], hypotheses[first][n], gold[n]) for n in shown]
        several = scores if len(scores) > 1 else {}
        return Validation(**scores[first], signature=str(metric.get_signature()), samples=samples, sets=several)

    return validate


def _translate(translator: Translator, sources: list[str], what: str) -> list[str]:
    with bar(what, len(sources), "sentences") as progress:
        return [best[0].text for best in translator.stream(sources, progress=progress.advance)]


def evaluate(config: Config, checkpoint: str, split: str) -> dict[str, dict[str, Any]]:
    """Translate the sets of a split, or one by its name, and score each; translations go to ``eval/NAME.hyp``."""
    paths, kind = RunDirectory(Path(config.run_dir)), split.partition(".")[0]
    if paths.config.exists() and getattr(load_config(paths.root).data, kind) != getattr(config.data, kind):
        raise ConfigError(f"data.{kind}: differs from the run's own, which is what would be scored; score other files "
                          "with mt eval RUN SOURCE REFERENCE")  # fmt: skip
    translator = Translator.from_config(config, checkpoint)
    names = prepare.set_names(paths.data, kind)
    if split != kind and split not in names:
        raise ConfigError(f"--split {split}: the run has no such set; choose from {', '.join([kind, *names])}")
    sets = {name: evaluation_set(paths.data, name) for name in names if split in (kind, name)}
    return {name: _scored(config, checkpoint, translator, name, *texts) for name, texts in sets.items()}


def evaluate_files(config: Config, checkpoint: str, source: Path, references: list[Path]) -> dict[str, Any]:
    """Translate a file and score it against others; the translations go to ``eval/file.NAME.hyp``."""
    files = Source(source=str(source), target=[str(path) for path in references])
    pairs = list(read_pairs(files, config.languages))
    if not pairs:
        raise DataError(f"{source}: is empty; give lines to translate")
    sources, targets = zip(*pairs, strict=True)
    translator = Translator.from_config(config, checkpoint)
    gold = [list(lines) for lines in zip(*targets, strict=True)]
    return _scored(config, checkpoint, translator, f"file.{source.name}", list(sources), gold)


def _scored(config: Config, checkpoint: str, translator: Translator, name: str, sources: list[str],
            references: list[list[str]]) -> dict[str, Any]:  # fmt: skip
    paths = RunDirectory(Path(config.run_dir))
    hypotheses = _translate(translator, sources, f"translating {name}")
    write_atomically(paths.eval / f"{name}.hyp", "".join(line + "\n" for line in hypotheses))
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
                raise ConfigError(
                    f"{paths.checkpoints / name}: is there already, of {', '.join(made_of)}; delete it first"
                )
        kept = {"step", "tokenizer", "model", "config", "start_from"}
        about = {key: value for key, value in manifest.items() if key in kept}
        checkpoints.save(name, checkpoints.average(names), {**about, "average_of": names})
    return name

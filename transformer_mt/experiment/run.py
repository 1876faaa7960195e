"""Training a run to its end, or on from where it was stopped, and saying how it ended."""

import hashlib
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.batching import Batches, SubwordSampling
from transformer_mt.data.links import Links, word_starts
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device, choose_precision
from transformer_mt.errors import Interrupted, MtError, SystemFault, is_out_of_memory, system_fault
from transformer_mt.experiment.scoring import make_validation
from transformer_mt.experiment.tokenization import experiment, flat, prepare_store, refuse_changes
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.rundir import RunDirectory, sha256, write_atomically
from transformer_mt.terminal import say
from transformer_mt.training.distributed import Group, joined
from transformer_mt.training.fine_tuning import Origin
from transformer_mt.training.gradient import derive_seed
from transformer_mt.training.metrics import Metrics, NoMetrics, duration, summary_writer
from transformer_mt.training.trainer import ENDING, Trainer
from transformer_mt.translate import Translator, make_model


@dataclass
class _Ending:
    """How the run ended, for exit.json."""

    code: int = 1
    reason: str = "crashed"
    step: int = 0


def train(config: Config, *, resume: bool, overwrite: bool, started: float) -> None:
    """Train a run to its end. ``started`` is the ``time.monotonic()`` of the command's start.

    Processes that torchrun has started do it together. Raises Interrupted after saving, when a signal came.
    """
    paths, ending = RunDirectory(Path(config.run_dir)), _Ending()
    with joined(choose_device(config.device)) as group, ExitStack() as stack:
        # Until there is something to save, the signal that asks for it must not end the process.
        stack.callback(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, signal.SIG_IGN))
        if group.begun():
            resume, overwrite = True, False
        group.compare({**flat(config.model_dump(mode="json")), "PyTorch": torch.__version__, "NumPy": np.__version__})
        group.lead(lambda: _open(config, paths, ending, stack, resume=resume, overwrite=overwrite))
        if not overwrite:  # else the run that it replaces is still set aside
            group.begin()
        group.compare(_fingerprints(paths))
        _train(config, paths, ending, group, started, resume=resume)


def _fingerprints(paths: RunDirectory) -> dict[str, str]:
    """What all processes of a run must read alike. Raises ArtefactError."""
    text = {"the token store": prepare.read_manifest(paths.data)}
    prints = {name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12] for name, value in text.items()}
    return {**prints, **{f"tokenizer/{path.name}": sha256(path)[:12] for path in Tokenizer.files(paths.tokenizer)}}


def _open(
    config: Config, paths: RunDirectory, ending: _Ending, stack: ExitStack, *, resume: bool, overwrite: bool
) -> None:
    """Claim and lock the directory until ``stack`` is left, and make the text ready."""
    paths.claim(resume=resume, overwrite=overwrite)
    stack.enter_context(paths.lock())
    paths.claim(resume=resume, overwrite=overwrite)  # a killed overwrite was undone, or another process was faster
    stack.callback(paths.put_back)
    if overwrite:
        paths.set_aside()
    stack.enter_context(_told(paths, ending))
    begun = paths.holds_run()
    if begun:
        refuse_changes(config, paths)
    refuse_impossible(config, paths)
    prepare_store(config, paths)  # of a run that has begun it only looks whether all fits
    paths.guard()
    write_atomically(paths.config, config.to_yaml())  # limits may be others than before


@contextmanager
def _told(paths: RunDirectory, ending: _Ending) -> Iterator[None]:
    """Write to exit.json how it ended; until then there is none."""
    paths.exit.unlink(missing_ok=True)
    try:
        yield
    except KeyboardInterrupt:  # asked twice, or outside the loop
        ending.code, ending.reason = 130, "SIGINT"
        raise
    except (MtError, OSError) as error:
        fault = system_fault(error) if isinstance(error, OSError) else error
        ending.code = fault.code
        ending.reason = signal.Signals(fault.code - 128).name if isinstance(fault, Interrupted) else str(fault)
        raise fault from error
    except Exception as error:
        if is_out_of_memory(error):
            ending.code, ending.reason = SystemFault.code, "out of memory"
        raise
    finally:
        if not paths.put_back() and not paths.lost():  # else the run that an overwrite did not begin is as it was
            with suppress(SystemFault):  # it may have ended for the same reason, which is to be told
                write_atomically(paths.exit, json.dumps(vars(ending)) + "\n")


def refuse_impossible(config: Config, paths: RunDirectory) -> None:
    """Look for what training would stumble over, before the text is read. Raises ConfigError."""
    settings = config.training
    choose_precision(settings.precision, choose_device(config.device))
    if settings.tensorboard:
        summary_writer()
    if settings.start_from is not None and not Checkpoints(paths.checkpoints).names():
        Origin(settings.start_from, config.model)


def _train(config: Config, paths: RunDirectory, ending: _Ending, group: Group, started: float, *, resume: bool) -> None:
    trainer = make_trainer(config, paths, started, group)
    try:
        _go_on(config, paths, ending, trainer, resume=resume)
    finally:
        ending.step = trainer.progress.step
        trainer.metrics.close()


def _go_on(config: Config, paths: RunDirectory, ending: _Ending, trainer: Trainer, *, resume: bool) -> None:
    """Train to the end, unless it is reached already. Raises Interrupted after saving, when a signal came."""
    finished = trainer.progress.finished
    if finished is not None and trainer.done():
        ending.code, ending.reason = 0, finished["reason"]
        limit = ending.reason.split()[0].strip(":")
        say(
            f"the run is finished already ({ending.reason}, step {trainer.progress.step:,}); to go on, raise its "
            f"limit: --resume --set training.{limit}=…"
        )
        return
    _say_what_begins(trainer, resume=resume)
    trainer.group.lead(paths.forget)
    trainer.group.begin()
    with _signals(trainer):
        reason = trainer.run()
    step = trainer.progress.step
    if reason == "interrupted":
        number = trainer.ended_by or signal.SIGTERM
        ending.reason = signal.Signals(number).name
        raise Interrupted(
            f"stopped by {ending.reason} after step {step:,}, saved; go on: mt train {paths.root} --resume",
            128 + number,
        )
    ending.code, ending.reason = 0, reason
    trainer.metrics.note(
        f"finished: {reason}; step {step:,}, {duration(trainer.progress.seconds)}; {_best(trainer)}in {paths.root}"
    )
    trainer.metrics.note(f"next: mt eval {paths.root}, mt translate {paths.root}")


def _say_what_begins(trainer: Trainer, *, resume: bool) -> None:
    if trainer.checkpoints.names():
        say(f"resuming after step {trainer.progress.step:,}")
    elif resume:
        say("nothing is saved yet; training starts from the beginning")
    parameters = sum(p.numel() for p in trainer.model.parameters())
    precision = str(trainer.model.precision).removeprefix("torch.")
    together = f", {trainer.group.size} processes" if trainer.group.size > 1 else ""
    say(f"training {parameters / 1e6:.2f}M parameters on {trainer.device}, {precision}{together}")


def make_trainer(config: Config, paths: RunDirectory, started: float, group: Group | None = None) -> Trainer:
    """What trains a run: on from its newest checkpoint or, where there is none, from the beginning.

    Raises ArtefactError when what is saved is damaged or does not fit.
    """
    group, device = group or Group(), choose_device(config.device)
    tokenizer, checkpoints = Tokenizer.load(paths.tokenizer), Checkpoints(paths.checkpoints, paths.guard)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = make_model(config.model, tokenizer)
    name = group.lead(checkpoints.newest)
    step, start_from = _load(config, model, tokenizer, checkpoints, name)
    model.to(device)
    translator = Translator(model, tokenizer, config.decoding.model_copy(update={"beam_size": 1}), device)
    curves = paths.tensorboard if config.training.tensorboard else None
    trainer = Trainer(
        model,
        make_batches(config, paths, tokenizer),
        config.training,
        checkpoints,
        Metrics(paths.metrics, step, curves, paths.guard) if group.leads else NoMetrics(),
        make_validation(config, paths, translator),
        seed=config.seed,
        about={
            "tokenizer": tokenizer.hashes,
            "model": config.model.model_dump(),
            "config": sha256(paths.config),
            "experiment": experiment(config),
            **({"start_from": start_from} if start_from else {}),
        },
        started=started,
        group=group,
    )
    if name is not None:
        trainer.resume(name)
    return trainer


def _load(
    config: Config, model: EncoderDecoder, tokenizer: Tokenizer, checkpoints: Checkpoints, name: str | None
) -> tuple[int, dict[str, str] | None]:
    """Give a fresh model the weights to go on from; return their step, and what the run's own first weights were."""
    if name is not None:
        manifest = checkpoints.manifest(name)
        load_weights(model, checkpoints.weights(name), name)
        return int(manifest["step"]), manifest.get("start_from")
    if config.training.start_from is not None:
        origin = Origin(config.training.start_from, config.model)
        origin.start(model, tokenizer)
        return 0, origin.about
    return 0, None


def make_trial(config: Config, folder: Path) -> tuple[Config, RunDirectory]:
    """For a trial of a run, with its text and tokenizer, and all else in a ``folder`` of its own.

    It goes without the weights of ``start_from`` where the run has begun: they need not be there any more.
    """
    own, paths = RunDirectory(Path(config.run_dir)), RunDirectory(folder)
    paths.config, paths.tokenizer, paths.data = own.config, own.tokenizer, own.data
    if Checkpoints(own.checkpoints).names():
        config = config.model_copy(update={"training": config.training.model_copy(update={"start_from": None})})
    return config, paths


def make_batches(config: Config, paths: RunDirectory, tokenizer: Tokenizer) -> Batches:
    """The training pairs, as often and in such pieces as is configured."""
    settings, manifest = config.training, prepare.read_manifest(paths.data) or {}
    sampling = SubwordSampling(tokenizer, settings.subword_sampling, config.data.max_length)
    store = Store(paths.data)
    return Batches(
        store,
        settings.batch_tokens,
        settings.device_tokens,
        config.seed,
        visits=[(corpus["pairs"], corpus["weight"]) for corpus in manifest.get("corpora", [])],
        sampling=sampling if settings.subword_sampling else None,
        links=Links(store.links, word_starts(tokenizer)) if settings.guided_alignment and store.links else None,
    )


def _best(trainer: Trainer) -> str:
    """Which checkpoint is the best, and how good; nothing when none is."""
    score = trainer.progress.best
    try:
        name = trainer.checkpoints.resolve("best") if score is not None else ""
    except MtError:  # it was lost, and nothing better came
        name = ""
    if score is None or not name:
        return ""
    bleu = trainer.settings.best_by == "bleu"
    return f"best {name} ({f'validation BLEU {score:.2f}, greedy' if bleu else f'nll {-score:.4f}'}); "


@contextmanager
def _signals(trainer: Trainer) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the training after its step, and SIGUSR1 save; ``nohup`` is respected."""

    def tell(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and trainer.signals & {*ENDING}:  # asked twice: at once
            raise KeyboardInterrupt
        trainer.signals.add(number)

    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    numbers = [n for n in (*ENDING, signal.SIGUSR1) if not (n == signal.SIGHUP and ignored)]
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

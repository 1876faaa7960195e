"""Training a run to its end, or on from where it was stopped, and saying how it ended."""

import hashlib
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.batching import Batches, SubwordSampling
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.device import choose_device, choose_precision
from transformer_mt.errors import ConfigError, Interrupted, MtError, SystemFault, is_out_of_memory, system_fault
from transformer_mt.experiment.scoring import make_validation
from transformer_mt.experiment.tokenization import experiment, flat, prepare_store, refuse_changes
from transformer_mt.rundir import RunDirectory, sha256, write_atomically
from transformer_mt.terminal import say
from transformer_mt.training.distributed import Group, joined
from transformer_mt.training.fine_tuning import Origin
from transformer_mt.training.metrics import Metrics, NoMetrics, duration, summary_writer
from transformer_mt.training.trainer import Trainer, derive_seed
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
        if group.restarted:
            resume, overwrite = True, False
        group.compare({**flat(config.model_dump(mode="json")), "PyTorch": torch.__version__})
        group.lead(lambda: _open(config, paths, ending, stack, resume=resume, overwrite=overwrite))
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
    if resume:
        refuse_changes(config, paths)
    if overwrite:
        paths.set_aside()
    stack.callback(paths.put_back)
    refuse_impossible(config, paths)
    begun = paths.holds_run()
    if begun:
        prepare_store(config, paths)  # which then only looks whether all fits; if not, nothing is changed
    stack.enter_context(_told(paths, ending))
    if not begun:
        prepare_store(config, paths)
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
        if not paths.put_back():  # else the run that an overwrite did not begin is as it was
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
    tokenizer = Tokenizer.load(paths.tokenizer)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    device = choose_device(config.device)
    model = make_model(config.model, tokenizer)
    checkpoints = Checkpoints(paths.checkpoints)
    name = group.lead(checkpoints.newest)
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
    curves = paths.tensorboard if config.training.tensorboard else None
    metrics = Metrics(paths.metrics, step, curves) if group.leads else NoMetrics()
    trainer = Trainer(
        model,
        make_batches(config, paths, tokenizer),
        config.training,
        checkpoints,
        metrics,
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
    try:
        if name is not None:
            trainer.resume(name)
            if trainer.done() and trainer.progress.finished:
                ending.code, ending.reason, ending.step = 0, trainer.progress.finished["reason"], trainer.progress.step
                limit = ending.reason.split()[0].strip(":")
                say(
                    f"the run is finished already ({ending.reason}, step {ending.step:,}); to go on, raise its limit: "
                    f"--resume --set training.{limit}=…"
                )
                return
            say(f"resuming after step {trainer.progress.step:,}")
        elif resume:
            say("nothing is saved yet; training starts from the beginning")
        parameters = sum(p.numel() for p in model.parameters())
        precision = str(model.precision).removeprefix("torch.")
        together = f", {group.size} processes" if group.size > 1 else ""
        say(f"training {parameters / 1e6:.2f}M parameters on {device}, {precision}{together}")
        if group.leads:
            paths.forget()
        with _signals(trainer) as caught:
            reason = trainer.run()
        ending.step = trainer.progress.step
        if reason == "interrupted":
            number = caught[0] if caught else signal.SIGTERM  # another process may have been told
            ending.reason = signal.Signals(number).name
            raise Interrupted(
                f"stopped by {ending.reason} after step {ending.step:,}, saved; go on: mt train {paths.root} --resume",
                128 + number,
            )
        ending.code, ending.reason = 0, reason
        metrics.note(f"finished: {reason}; step {ending.step:,}, {duration(trainer.progress.seconds)}; "
                     f"{_best(config, checkpoints, trainer.progress.best)}in {paths.root}")  # fmt: skip
        metrics.note(f"next: mt eval {paths.root}, mt translate {paths.root}")
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
    try:
        name = checkpoints.resolve("best") if score is not None else ""
    except MtError:  # it was lost, and nothing better came
        name = ""
    if score is None or not name:
        return ""
    shown = f"validation BLEU {score:.2f}, greedy" if config.training.best_by == "bleu" else f"nll {-score:.4f}"
    return f"best {name} ({shown}); "


@contextmanager
def _signals(trainer: Trainer) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM end the training after its step, and SIGUSR1 save; yields those that are to end it."""
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:  # asked twice: at once
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stop = True

    def save(number: int, frame: FrameType | None) -> None:
        trainer.save_now = True

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGUSR1: save}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

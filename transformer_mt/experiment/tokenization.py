"""The text of a run made ready: its directory claimed, tokenizer and token store made or found made."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data import prepare
from transformer_mt.data.cleaning import shown
from transformer_mt.data.fingerprint import difference, fingerprint
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import ArtefactError, system_fault
from transformer_mt.rundir import RunDirectory, sha256, write_atomically
from transformer_mt.terminal import say, warn
from transformer_mt.training.metrics import duration

# What may differ when a run is resumed: limits, intervals and where it is computed. The rest is the experiment.
_FREE = {
    "training": {"max_steps", "max_epochs", "max_minutes", "patience", "log_every", "save_every", "validate_every",
                 "keep_last", "average", "samples", "tensorboard"},
}  # fmt: skip
_FREE_SECTIONS = {"device", "run_dir", "decoding", "data"}  # of data, the fingerprint of the store knows more


def tokenize(config: Config) -> None:
    """Learn the tokenizer and write the token store of a run, unless both are there and their inputs unchanged."""
    with tokenized(config):
        pass


@contextmanager
def tokenized(config: Config) -> Iterator[RunDirectory]:
    """The run directory of a configuration, locked, after tokenizer and store were made or found made."""
    paths = RunDirectory(Path(config.run_dir))
    paths.claim(resume=True)
    with paths.lock():
        if paths.holds_run():
            refuse_changes(config, paths)
        prepare_store(config, paths)
        yield paths


def prepare_store(config: Config, paths: RunDirectory) -> None:
    """Make tokenizer and store, or find them made. Raises ArtefactError when a started run would change under us."""
    started = paths.holds_run()
    try:
        manifest = prepare.read_manifest(paths.data)
    except ArtefactError:
        if started:
            raise
        manifest = None  # it is made anew
    known = None if manifest is None else manifest["fingerprint"]
    # A started run goes on without its original files: the store suffices.
    prints = fingerprint(config, known, may_miss=started)
    if manifest is not None and Tokenizer.files(paths.tokenizer):
        changed = difference(manifest["fingerprint"], prints)
        tokenizer = {path.name: sha256(path) for path in Tokenizer.files(paths.tokenizer)}
        if not changed and manifest.get("tokenizer", tokenizer) != tokenizer:
            changed = "the files of the tokenizer"
        if not changed:
            say(f"token store: {manifest['pairs']:,} pairs, unchanged")
            if not started:
                write_atomically(paths.config, config.to_yaml())
            return
        if started:
            raise ArtefactError(
                f"{paths.root}: the run was started with other data or tokenizer ({changed} differ); train in another "
                "run_dir, or start anew with --overwrite"
            )
    elif started:
        raise ArtefactError(f"{paths.data}: the token store is missing; put it back, or train in another run_dir")
    say("reading the corpora …")
    begun = time.monotonic()
    try:
        manifest = prepare.prepare(config, prints, paths.scratch / "tokenizer", paths.scratch / "data")
        write_atomically(paths.config, config.to_yaml())
        paths.replace_store()
    except OSError as error:
        raise system_fault(error, paths.scratch) from error
    finally:
        shutil.rmtree(paths.scratch, ignore_errors=True)
    _say_what_was_read(config, manifest, time.monotonic() - begun)


def _say_what_was_read(config: Config, manifest: dict[str, Any], seconds: float) -> None:
    vocabulary = " and ".join(f"{size:,}" for size in dict.fromkeys(manifest["vocabulary"].values()))
    say(f"token store: {manifest['pairs']:,} training pairs, vocabulary {vocabulary}, in {duration(seconds)}")
    for split, count in manifest["held_out"].items():
        say(f"  held out of training for {split}: {count:,} pairs (data.{split} is not given)")
    if manifest["held_out"] and config.training.start_from is not None:
        warn("start_from may have been trained on pairs that are held out now, and scores will flatter; give "
             "data.valid and data.test")  # fmt: skip
    for rule, drop in manifest["dropped"].items():
        say(f"  dropped, {rule}: {drop['pairs']:,} pairs, such as {shown(drop['examples'][0])}")
    if manifest["leaks"] and "leaks" not in config.data.drop:
        warn(f"{manifest['leaks']:,} training pairs are in the validation or test set, too: scores will flatter; to "
             "drop them, add leaks to data.drop")  # fmt: skip


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration as one mapping of dotted keys."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        result.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return result


def experiment(config: Config) -> dict[str, Any]:
    """The settings that may not differ when a run is resumed, by their dotted keys."""
    tree = {key: value for key, value in config.model_dump(mode="json").items() if key not in _FREE_SECTIONS}
    free = {f"{section}.{key}" for section, keys in _FREE.items() for key in keys}
    return {key: value for key, value in flat(tree).items() if key not in free}


def refuse_changes(config: Config, paths: RunDirectory) -> None:
    """Compare with the settings of the run so far. Raises ArtefactError naming the differences.

    They are those of the newest checkpoint: its configuration file may have been edited, or lost.
    """
    if not paths.holds_run():
        return
    checkpoints, before = Checkpoints(paths.checkpoints), None
    for name in checkpoints.names()[-1:]:
        with suppress(ArtefactError):  # it is told when it is to be loaded
            before = checkpoints.manifest(name).get("experiment")
    now, before = experiment(config), before or experiment(load_config(paths.root))
    # A key that did not exist then has had the effect of its default.
    defaults = {section: type(getattr(config, section))() for section in ("model", "training", "tokenizer")}
    before = {**experiment(config.model_copy(update=defaults)), **before}
    changed = [f"{key} is {new} but was {before.get(key)}" for key, new in now.items() if new != before.get(key)]
    if changed:
        raise ArtefactError(
            f"{paths.root}: cannot resume with other settings: {', '.join(changed)}; to go on as it was started: "
            f"mt train {paths.root} --resume"
        )

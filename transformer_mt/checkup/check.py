"""The data doctor and the preflight of a configuration: ``mt check``."""

import json
import shutil
import signal
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from transformer_mt.checkup.page import page
from transformer_mt.checkup.preflight import Preflight, preflight
from transformer_mt.checkup.report import Report
from transformer_mt.config import Config, Source
from transformer_mt.data import corpus, prepare
from transformer_mt.data.advice import advise
from transformer_mt.data.coverage import Coverage, coverage
from transformer_mt.data.doctor.examination import Examination, Finding, examine
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.data.writing import other_language
from transformer_mt.device import choose_device
from transformer_mt.errors import SystemFault
from transformer_mt.experiment.run import make_trainer, make_trial, refuse_impossible
from transformer_mt.experiment.tokenization import tokenize
from transformer_mt.rundir import RunDirectory, write_atomically
from transformer_mt.terminal import bar, say
from transformer_mt.translate import Translator

MOST = 1_000_000  # pairs of a corpus that are examined, the first ones; the rules of cleaning see all
_LANGUAGE_LINES = 2_000


def check(config: Config) -> Report:
    """Examine the text, make tokenizer and store, and try training; write check.html, check.json and check.tsv.

    Raises what training would raise when it cannot start.
    """
    paths = RunDirectory(Path(config.run_dir))
    others = _in_the_way(paths)
    refuse_impossible(config, paths)
    tokenize(config)
    store = prepare.read_manifest(paths.data)
    assert store is not None
    sets = {name: prepare.evaluation_set(paths.data, name) for names in store["sets"].values() for name in names}
    given = {name: (sources, references[0]) for name, (sources, references) in sets.items()}
    examinations, listed = {}, list[str]()
    unseen = {name: lines for name, lines in given.items() if name not in store["held_out"]}
    names = [corpus.name(source) for source in config.data.train]
    for number, (source, name) in enumerate(zip(config.data.train, names, strict=True), start=1):
        if names.count(name) > 1:  # such as two splits of a data set of the hub
            name = f"{name} (corpus {number})"
        sources, targets = _read(config, source)
        say(f"examining {name} …")
        others += _languages(config, _names(source), sources, targets)
        examined = examine(sources, targets, config.languages, unseen, _names(source))
        examinations[name] = _without_leaks(examined) if "leaks" in config.data.drop else examined
        listed += _lines(name, examinations[name].findings, sources, targets)
    for name in unseen:
        found = examine(*given[name], config.languages, {}, (f"{name}, source", f"{name}, target")).problems
        others += found
        listed += _lines(name, found, *given[name])
    tokenizer = Tokenizer.load(paths.tokenizer)
    pieces = len(Store(paths.data).target.ids) / store["pairs"] + 1
    gpu = choose_device(config.device).type == "cuda"
    say("trying the largest batch, validation, saving and loading …")
    report = Report(
        config=config,
        examinations=examinations,
        sets={name: len(sources) for name, (sources, _) in sets.items()},
        store=store,
        coverage=_coverage(tokenizer, paths.data, given),
        advice=advise(store["pairs"], pieces, gpu=gpu),
        preflight=_fly_apart(config),
        others=others,
    )
    write_atomically(paths.root / "check.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    write_atomically(paths.root / "check.html", page(report))
    write_atomically(paths.root / "check.tsv", "".join(listed))
    return report


def _in_the_way(paths: RunDirectory) -> list[Finding]:
    if not paths.holds_run():
        return []
    message = f"{paths.root}: already holds a run; mt train needs --resume to go on with it, --overwrite to start anew"
    return [Finding("run directory", "note", message, [])]


def _lines(name: str, findings: list[Finding], sources: list[str], targets: list[str]) -> list[str]:
    """Every line that a finding means, for check.tsv: kind, corpus, number, source and target."""
    return [
        "\t".join((found.kind, name, str(n), *(side[n - 1].replace("\t", " ") for side in (sources, targets)))) + "\n"
        for found in findings
        for n in found.lines
    ]


def _names(source: Source) -> tuple[str, str]:
    """What to call the two sides of a corpus: their files, or the file and its columns."""
    if len(source.files) > 1:
        return source.files[0], source.files[1]
    columns = source.columns or ("source", "target")
    return f"{corpus.name(source)} ({columns[0]})", f"{corpus.name(source)} ({columns[1]})"


def _read(config: Config, source: Source) -> tuple[list[str], list[str]]:
    """Both sides of a corpus."""
    with bar("reading", None, "pairs") as progress:
        pairs = []
        for line, targets in islice(corpus.read_pairs(source, config.languages), MOST):
            pairs.append((line, targets[0]))
            progress.advance()
    if len(pairs) == MOST:
        say(f"{corpus.name(source)}: the first {MOST:,} pairs are examined")
    return [source for source, _ in pairs], [target for _, target in pairs]


def _without_leaks(examined: Examination) -> Examination:
    """The same, but exact copies of test pairs, which the rule "leaks" drops, are no problem."""
    dropped = {
        name
        for name, leak in examined.leaks.items()
        if leak.pairs >= max(leak.normalised_pairs, leak.normalised_sources)
    }
    findings = [
        replace(found, severity="note") if found.kind == "leakage" and found.message.split(":")[0] in dropped else found
        for found in examined.findings
    ]
    return replace(examined, findings=findings)


def _languages(config: Config, names: tuple[str, str], sources: list[str], targets: list[str]) -> list[Finding]:
    """Whether the text is in the languages that the configuration names."""
    codes = (config.languages.source, config.languages.target)
    found = [
        other_language(code, lines[:_LANGUAGE_LINES]) for code, lines in zip(codes, (sources, targets), strict=True)
    ]
    if found == list(codes[::-1]):
        message = (
            f"{names[0]}: looks like {codes[1]}, and {names[1]} like {codes[0]}, as if the files were exchanged; "
            "exchange source and target in data, or in languages"
        )
        return [Finding("languages", "problem", message, [])]
    return [
        Finding(
            "languages", "problem", f"{name}: looks like {other}, not {code}; check the file and languages.{side}", []
        )
        for side, name, code, other in zip(("source", "target"), names, codes, found, strict=True)
        if other is not None
    ]


def _coverage(tokenizer: Tokenizer, data: Path, sets: dict[str, tuple[list[str], list[str]]]) -> dict[str, Coverage]:
    """How well the tokenizer knows each side of the training text and of the sets."""
    sides: dict[str, tuple[Any, Any]] = {
        "source": (tokenizer.encode_source, tokenizer.source), "target": (tokenizer.encode_target, tokenizer.target)
    }  # fmt: skip
    known = {f"train.{side}": coverage(*sides[side], corpus.read_lines(data / f"train.{side}.txt")) for side in sides}
    for name, lines in sets.items():
        known |= {f"{name}.{side}": coverage(*sides[side], lines[n]) for n, side in enumerate(sides)}
    return known


def _fly_apart(config: Config) -> Preflight:
    """The preflight, in a process of its own: its memory is that of training, and running out of it ends only that."""
    for left in Path(config.run_dir).glob(".check-*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(dir=config.run_dir, prefix=".check-") as scratch:
        child = context.Process(target=_fly_and_send, args=(sender, config, Path(scratch)), daemon=True)
        resource_tracker.ensure_running()  # else the start of the child would start it, which unblocks signals
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C ends us, we the child
        child.start()
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            sender.close()
            result: Preflight | Exception = receiver.recv()
        except EOFError as error:
            raise SystemFault(
                "the largest batch does not fit into memory; lower training.device_tokens, or take a smaller model"
            ) from error
        finally:
            child.kill()
            child.join()
    if isinstance(result, Exception):
        raise result
    return result


def _fly_and_send(sender: Connection, config: Config, scratch: Path) -> None:
    result: Preflight | Exception
    try:
        result = _fly(config, scratch)
    except Exception as error:
        error.add_note(traceback.format_exc())  # which is lost on the way, and wanted by --debug
        result = error
    with suppress(BrokenPipeError):
        sender.send(result)


def _fly(config: Config, scratch: Path) -> Preflight:
    config, paths = make_trial(config, scratch)
    trainer = make_trainer(config, paths, time.monotonic())
    translator = Translator(trainer.model, Tokenizer.load(paths.tokenizer), config.decoding, trainer.device)
    sets = [prepare.evaluation_set(paths.data, name) for name in prepare.set_names(paths.data, "valid")]
    sources = [line for lines, _ in sets for line in lines]
    return preflight(trainer, translator, sources, [line for _, [lines] in sets for line in lines])

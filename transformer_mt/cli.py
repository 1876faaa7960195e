"""The commands of ``mt``: parse, call, print. Heavy imports stay inside the commands, so that help is instant."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Exit

from transformer_mt.errors import ConfigError, DataError, SystemFault, missing, system_fault

_STARTED = time.monotonic()

app = typer.Typer(
    name="mt",
    help="Train a machine translation model from raw parallel text, and trust it.\n\n"
    "Example:  mt train configs/demo.yaml  then  mt translate runs/demo",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", readable=False, help="A YAML file, or a run directory.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run directory, or the YAML file of a run.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable.")]
Checkpoint = Annotated[str, typer.Option(metavar="NAME", help="best, last, or the name of a checkpoint.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version
        from platform import python_version

        from transformer_mt import __version__

        print(f"mt {__version__} (Python {python_version()}, PyTorch {version('torch')})")
        raise Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")]


def follows() -> bool:
    """Whether torchrun has started us beside a first process, which is given the same, and tells what is wrong."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


@app.callback()
def _options(context: typer.Context, debug: Debug = False, version: Version = False) -> None:
    command = context.invoked_subcommand
    if command != "train" and os.environ.get("WORLD_SIZE", "1") != "1":
        error = ConfigError(f"mt {command}: runs in one process; leave torchrun out")
        error.silent = follows()
        raise error


@app.command()
def init(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", readable=False, help="Text of the language to translate from.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", readable=False, help="Its translation, line by line.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there; SOURCE-TARGET.yaml when left out.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(metavar="CODES", help="Such as de-en; told from names and text when left out.")
    ] = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="What training may take; what the text needs when left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a configuration for two text files.

    With values that suit the amount of text, and their reasons; validation and test files beside them are used.

    Example:  mt init train.de train.en
    """
    from transformer_mt import starter

    _writable("--output", output)
    starter.init((source, target), output, languages, minutes, overwrite=overwrite)


@app.command()
def check(config: Config, set_: Set = None) -> None:
    """Examine the text, and foretell what training will take.

    Looks for shifted and swapped lines, test lines in training, wrong languages and what the rules drop; then tries the
    largest batch, validation, saving and loading, and says memory and time. Ends with a verdict; the code is
    3 when the text has problems, 2 when the settings have, 6 when the disk is too small. Leaves check.html, check.json,
    check.tsv and the token store in run_dir.

    Example:  mt check configs/demo.yaml
    """
    from transformer_mt.checkup import check, text
    from transformer_mt.config_file import load_config

    report = check.check(load_config(config, set_ or ()))
    print("\n".join(text.lines(report)))
    if (fault := report.fault()) is not None:
        raise fault


@app.command()
def tokenize(config: Config, set_: Set = None) -> None:
    """Learn the tokenizer and write the token store.

    Done again only when their inputs change. `mt train` does it by itself.

    Example:  mt tokenize configs/demo.yaml
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import tokenization

    tokenization.tokenize(load_config(config, set_ or ()))


@app.command()
def train(
    config: Config,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that run_dir holds.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run that run_dir holds.")] = False,
) -> None:
    """Train a model, from text to the best checkpoint.

    Tokenizes when needed, trains, validates, keeps the best and the last checkpoints in run_dir.

    Example:  mt train configs/demo.yaml --set training.max_minutes=10
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import run as experiment

    if resume and overwrite:
        raise ConfigError("--resume --overwrite: one goes on with a run, the other deletes it; choose one")
    experiment.train(load_config(config, set_ or ()), resume=resume, overwrite=overwrite, started=_STARTED)


@app.command()
def selftest(config: Config, set_: Set = None) -> None:
    """Prove on this machine that nothing is lost.

    Trains some steps of the configuration, kills itself, resumes, and compares with a run that was not killed; saves
    and loads; translates lines alone and in a batch. Leaves only the token store in run_dir.

    Example:  mt selftest configs/demo.yaml
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import selftest as experiment

    experiment.report(experiment.selftest(load_config(config, set_ or ())))


def _writable(option: str, path: Path | None) -> None:
    """Raise SystemFault where a file could not be written: before the work, not after it."""
    if path is not None and not path.parent.is_dir():
        raise SystemFault(f"{option} {path}: there is no folder {path.parent}; make it, or choose another")
    if path is not None and path.is_dir():
        raise SystemFault(f"{option} {path}: is a folder; give a file")


def _write_json(path: Path, sets: dict[str, Any]) -> None:
    """Write what was found of each set; of a single one, without its name."""
    import json

    try:
        found = sets if len(sets) > 1 else next(iter(sets.values()))
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        error.filename = str(path)
        raise system_fault(error) from error


def _known(split: str) -> None:
    if split.partition(".")[0] not in ("test", "valid"):
        raise ConfigError(f"--split {split}: unknown; expected test, valid or one of several sets, as test.NAME")


@app.command("eval")
def evaluate(
    run: Run,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE REFERENCE", readable=False, help="Other text; the run's own test sets when left out."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="test, valid, or one of several sets, as test.NAME.")] = "test",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the scores there.")] = None,
    checkpoint: Checkpoint = "best",
    set_: Set = None,
) -> None:
    """Score test sets, or other files: BLEU, chrF and TER.

    By sacreBLEU on the raw references, each with its signature; translations go to RUN/eval.

    Example:  mt eval runs/demo --json scores.json
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import scoring

    source, *references = files or (None,)
    if source is not None and not references:
        raise ConfigError(f"{source}: has no REFERENCE to be compared with; give one, or use mt translate")
    if source is not None and split != "test":
        raise ConfigError(f"--split {split}: does not go with files; leave one of them out")
    _known(split)
    _writable("--json", json_file)
    config = load_config(run, set_ or ())
    if source is None:
        sets = scoring.evaluate(config, checkpoint, split)
    else:
        sets = {source.name: scoring.evaluate_files(config, checkpoint, source, references)}
    if json_file is not None:
        _write_json(json_file, sets)
    for name, scores in sets.items():
        if len(sets) > 1:
            print(name)
        for metric, label in (("bleu", "BLEU"), ("chrf", "chrF"), ("ter", "TER")):
            print(f"{label} {scores[metric]['score']:.2f}  {scores[metric]['signature']}")
    for name, scores in sets.items():
        bleu, chrf = scores["bleu"]["score"], scores["chrf"]["score"]
        print(f"BLEU {bleu:.2f} chrF {chrf:.2f} ({name}, {scores['sentences']} sentences)")


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", readable=False, help="Run directories; the first is compared with.")
    ],
    split: Annotated[str, typer.Option(help="test, valid, or one of several sets, as test.NAME.")] = "test",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all of it there.")] = None,
    checkpoint: Checkpoint = "best",
) -> None:
    """Compare runs: is the difference significant?

    Translates the test set with each and prints BLEU, chrF and TER with 95 % intervals, the differences from the first
    run with p-values (paired bootstrap resampling, paired approximate randomisation), and the sentences that differ
    most. Runs that differ in their seed alone are a group, with mean and standard deviation.

    Example:  mt compare runs/baseline runs/deeper
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import compare as experiment

    if len(runs) < 2:
        raise ConfigError(f"{runs[0]}: has no other run to be compared with; give two or more")
    _known(split)
    _writable("--json", json_file)
    sets = experiment.compare([(str(run), load_config(run)) for run in runs], checkpoint, split)
    if json_file is not None:
        _write_json(json_file, {name: comparison.to_json() for name, comparison in sets.items()})
    for name, comparison in sets.items():
        print(f"{name}: {comparison.sentences:,} sentences")
        print("\n".join(experiment.lines(comparison)))


@app.command()
def report(
    run: Run,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there; RUN/report.html when left out.")
    ] = None,
    checkpoint: Checkpoint = "best",
    set_: Set = None,
) -> None:
    """Tell all of a run on one page that needs nothing else.

    Learning curves, scores of the test set with confidence intervals, by length and by rarity of words, the worst and
    the best sentences with their attention, and where it all comes from.

    Example:  mt report runs/demo
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.report import page

    _writable("--output", output)
    page.write(load_config(run, set_ or ()), checkpoint, output, shlex.join(["mt", *sys.argv[1:]]))


@app.command()
def translate(
    run: Run,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", readable=False, help="Text; standard input when left out.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there instead of standard output.")] = None,
    nbest: Annotated[int, typer.Option(min=1, help="Translations a line, at most decoding.beam_size.")] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Put the score and a tab before each translation.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with scores and tokens.")] = False,
    split: Annotated[bool, typer.Option("--split", help="Translate the sentences of each line one by one.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an --output that was interrupted.")] = False,
    checkpoint: Checkpoint = "best",
    set_: Set = None,
) -> None:
    """Translate a file, standard input, or at a prompt.

    Line i out is the translation of line i in; a terminal on both ends gets a prompt.

    Example:  echo "The dog sleeps." | mt translate runs/demo
    """
    from transformer_mt import interactive
    from transformer_mt.config_file import load_config
    from transformer_mt.output_file import is_file

    config = load_config(run, set_ or ())
    if nbest > config.decoding.beam_size:
        raise ConfigError(f"--nbest {nbest}: more than decoding.beam_size {config.decoding.beam_size}; ask for fewer")
    if split and nbest > 1:
        raise ConfigError(f"--nbest {nbest}: does not go with --split; leave one of them out")
    if scores and (json or split):
        raise ConfigError(f"--scores: does not go with --{'json' if json else 'split'}; --json has the scores anyway")
    if file is not None and not file.exists():
        raise DataError(missing(file))
    if file is not None and output is not None and output.exists() and output.samefile(file):
        raise ConfigError(f"--output {output}: is the file to translate; choose another")
    _writable("--output", output)
    if resume and not (file is not None and file.is_file() and output is not None and is_file(output)):
        raise ConfigError("--resume: goes on from a file to a file, not from or to a pipe; give FILE and --output FILE")
    interactive.translate(config, checkpoint, file, output, interactive.Job(nbest, scores, json, split), resume=resume)


@app.command()
def score(
    run: Run,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", readable=False, help="Source lines.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", readable=False, help="Their given translations.")],
    checkpoint: Checkpoint = "best",
    set_: Set = None,
) -> None:
    """Print log-probabilities of given translations.

    One a line: the sum over the tokens, in nats.

    Example:  mt score runs/demo data/test.en data/test.de
    """
    from transformer_mt.config import Source
    from transformer_mt.config_file import load_config
    from transformer_mt.data.corpus import read_pairs
    from transformer_mt.terminal import bar
    from transformer_mt.translate import Translator

    config = load_config(run, set_ or ())
    pairs = list(read_pairs(Source(source=str(source), target=str(target)), config.languages))
    translator = Translator.from_config(config, checkpoint)
    with bar("scoring", len(pairs), "lines") as progress:
        values = translator.score([pair[0] for pair in pairs], [pair[1][0] for pair in pairs], progress.advance)
    for value in values:
        print(f"{value:.4f}")


@app.command()
def align(
    run: Run,
    sentence: Annotated[str | None, typer.Argument(metavar="[SENTENCE]", help="A source sentence.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its translation; the model's own when left out.")
    ] = None,
    source_file: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="Source lines, in place of a sentence.")
    ] = None,
    target_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Their translations; the model's own when left out."),
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Their true links; print the error rate of every head."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=1, help="Which layer, from 1; the last, of more than 3 the last but one.")
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(
            min=1, help="Which head, from 1; the mean of all when left out, of a guided model the taught one."
        ),
    ] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Show the pieces of words.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Weights of all layers and heads, an object a line.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a sentence's picture there, .png or .svg.")
    ] = None,
    checkpoint: Checkpoint = "best",
    set_: Set = None,
) -> None:
    """Show what the words of a translation attend to in the source.

    A matrix of shaded cells for a sentence, a row a target word; for a file the link of each target word to its most
    attended source word, as i-j, the source word first, counted from 0, a line a pair.

    Example:  mt align runs/demo "The old teacher reads the letter."
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import align as experiment

    if (sentence is None) == (source_file is None):
        raise ConfigError("SENTENCE, --source-file: what to align is one of them; give a sentence or a file")
    for option, given in (("--target", target), ("--output", output)):
        if given is not None and sentence is None:
            raise ConfigError(f"{option} {given}: goes with a SENTENCE, not with --source-file; leave one of them out")
    for option, given in (("--target-file", target_file), ("--gold", gold)):
        if given is not None and sentence is not None:
            raise ConfigError(f"{option} {given}: goes with --source-file, not with a SENTENCE; leave one of them out")
    if gold is not None and (target_file is None or pieces or json):
        raise ConfigError(f"--gold {gold}: has the words of two given files; add --target-file, and neither --pieces "
                          "nor --json")  # fmt: skip
    if json and (layer or head or output):
        raise ConfigError("--json: gives all layers and heads; leave out --layer, --head and --output")
    if output is not None and output.suffix not in (".png", ".svg"):
        raise ConfigError(f"--output {output}: its ending tells the format; expected .png or .svg")
    _writable("--output", output)
    config = load_config(run, set_ or ())
    view = experiment.View(layer, head, pieces, json).of(config)
    if sentence is not None:
        experiment.align_sentence(config, checkpoint, sentence, target, view, output)
    elif source_file is not None and target_file is not None and gold is not None:
        print("\n".join(experiment.align_gold(config, checkpoint, source_file, target_file, gold, view)))
    elif source_file is not None:
        experiment.align_file(config, checkpoint, source_file, target_file, view)


@app.command()
def average(run: Run, set_: Set = None) -> None:
    """Average the checkpoints that a run has kept.

    Prints the name of the new one, to use with --checkpoint.

    Example:  mt average runs/demo
    """
    from transformer_mt.config_file import load_config
    from transformer_mt.experiment import average as experiment

    print(experiment.average(load_config(run, set_ or ())))

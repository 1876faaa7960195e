"""How good a run is: on its validation sets while it trains, on its test sets or any files afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config, Source
from transformer_mt.config_file import load_config
from transformer_mt.data import prepare
from transformer_mt.data.corpus import read_pairs
from transformer_mt.errors import ConfigError, DataError
from transformer_mt.evaluate import bleu_metric, corpus_scores, mean_nll
from transformer_mt.rundir import RunDirectory, write_atomically
from transformer_mt.terminal import bar
from transformer_mt.training.metrics import Validation
from transformer_mt.translate import TEXT, Translator
from transformer_mt.workers import AllCores


def make_validation(config: Config, paths: RunDirectory, translator: Translator) -> Any:
    """The function that validates the model as it is: loss, and BLEU of greedy translations.

    It calls its argument between batches, which may raise to end it. Of several sets the first decides which checkpoint
    is best.
    """
    sets = {name: prepare.evaluation_set(paths.data, name) for name in prepare.set_names(paths.data, "valid")}
    for name, (sources, references) in sets.items():
        if not any(source.strip() and target.strip() for source, target in zip(sources, references[0], strict=True)):
            raise DataError(f"data.{name}: no pair has text on both sides; give other text")
    metric = bleu_metric(config.languages.target)
    first, *_ = sets
    sources, [gold] = sets[first]
    shown = [n for n, line in enumerate(sources) if line.strip()]
    shown = shown[:: max(1, len(shown) // max(1, config.training.samples))][: config.training.samples]

    def validate(go_on: Callable[[], None]) -> Validation:
        hypotheses = {name: _translate(translator, lines, "validating", go_on) for name, (lines, _) in sets.items()}
        scores = {
            name: {
                "nll": mean_nll(translator, sources, references[0], config.training.device_tokens, go_on),
                "bleu": float(metric.corpus_score(hypotheses[name], references).score),
            }
            for name, (sources, references) in sets.items()
        }
        translator.release()
        samples = [(sources[n], hypotheses[first][n], gold[n]) for n in shown]
        several = scores if len(scores) > 1 else {}
        return Validation(**scores[first], signature=str(metric.get_signature()), samples=samples, sets=several)

    return validate


def _translate(
    translator: Translator, sources: list[str], what: str, go_on: Callable[[], None] = lambda: None
) -> list[str]:
    with bar(what, len(sources), "sentences") as progress:

        def advance(count: int) -> None:
            progress.advance(count)
            go_on()

        return [best[0].text for best in translator.stream(sources, TEXT, advance)]


def chosen_sets(config: Config, split: str) -> dict[str, tuple[list[str], list[list[str]]]]:
    """The source lines and the references of the sets of a split, or of one by its name. Raises ConfigError."""
    paths, kind = RunDirectory(Path(config.run_dir)), split.partition(".")[0]
    if paths.config.exists() and getattr(load_config(paths.root).data, kind) != getattr(config.data, kind):
        raise ConfigError(f"data.{kind}: differs from the run's own, which is what would be scored; score other files "
                          "with mt eval RUN SOURCE REFERENCE")  # fmt: skip
    names = prepare.set_names(paths.data, kind)
    known = dict.fromkeys([kind, *names])
    if split not in known:
        raise ConfigError(f"--split {split}: the run has no such set; choose from {', '.join(known)}")
    return {name: prepare.evaluation_set(paths.data, name) for name in names if split in (kind, name)}


class Translated(NamedTuple):
    """A set, and its translations."""

    sources: list[str]
    references: list[list[str]]
    hypotheses: list[str]


def translated(config: Config, checkpoint: str, split: str) -> dict[str, Translated]:
    """Translate the sets of a split, or one by its name; translations go to ``eval/NAME.hyp``."""
    with AllCores.from_config(config, checkpoint) as translator:
        sets = chosen_sets(config, split)
        return {
            name: Translated(sources, references, _to_file(config, translator, name, sources))
            for name, (sources, references) in sets.items()
        }


def evaluate(config: Config, checkpoint: str, split: str) -> dict[str, dict[str, Any]]:
    """Translate the sets of a split, or one by its name, and score each; translations go to ``eval/NAME.hyp``."""
    return {name: _scored(config, checkpoint, text) for name, text in translated(config, checkpoint, split).items()}


def evaluate_files(config: Config, checkpoint: str, source: Path, references: list[Path]) -> dict[str, Any]:
    """Translate a file and score it against others; the translations go to ``eval/file.NAME.hyp``."""
    files = Source(source=str(source), target=[str(path) for path in references])
    pairs = list(read_pairs(files, config.languages))
    if not pairs:
        raise DataError(f"{source}: is empty; give lines to translate")
    sources, targets = zip(*pairs, strict=True)
    gold = [list(lines) for lines in zip(*targets, strict=True)]
    with AllCores.from_config(config, checkpoint) as translator:
        hypotheses = _to_file(config, translator, f"file.{source.name}", list(sources))
    return _scored(config, checkpoint, Translated(list(sources), gold, hypotheses))


def _to_file(config: Config, translator: Translator, name: str, sources: list[str]) -> list[str]:
    hypotheses = _translate(translator, sources, f"translating {name}")
    path = RunDirectory(Path(config.run_dir)).eval / f"{name}.hyp"
    write_atomically(path, "".join(line + "\n" for line in hypotheses))
    return hypotheses


def _scored(config: Config, checkpoint: str, text: Translated) -> dict[str, Any]:
    scores = corpus_scores(text.hypotheses, text.references, config.languages.target)
    checkpoints = Checkpoints(RunDirectory(Path(config.run_dir)).checkpoints)
    return {**scores, "checkpoint": checkpoints.resolve(checkpoint)}

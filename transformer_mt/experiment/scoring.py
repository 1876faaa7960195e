"""How good a run is: on its validation sets while it trains, on its test sets or any files afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from transformer_mt.translate import Translator
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

        return [best[0].text for best in translator.stream(sources, progress=advance)]


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


def evaluate(config: Config, checkpoint: str, split: str) -> dict[str, dict[str, Any]]:
    """Translate the sets of a split, or one by its name, and score each; translations go to ``eval/NAME.hyp``."""
    with AllCores.from_config(config, checkpoint) as translator:
        sets = chosen_sets(config, split)
        return {name: _scored(config, checkpoint, translator, name, *texts) for name, texts in sets.items()}


def evaluate_files(config: Config, checkpoint: str, source: Path, references: list[Path]) -> dict[str, Any]:
    """Translate a file and score it against others; the translations go to ``eval/file.NAME.hyp``."""
    files = Source(source=str(source), target=[str(path) for path in references])
    pairs = list(read_pairs(files, config.languages))
    if not pairs:
        raise DataError(f"{source}: is empty; give lines to translate")
    sources, targets = zip(*pairs, strict=True)
    gold = [list(lines) for lines in zip(*targets, strict=True)]
    with AllCores.from_config(config, checkpoint) as translator:
        return _scored(config, checkpoint, translator, f"file.{source.name}", list(sources), gold)


def _scored(config: Config, checkpoint: str, translator: Translator, name: str, sources: list[str],
            references: list[list[str]]) -> dict[str, Any]:  # fmt: skip
    paths = RunDirectory(Path(config.run_dir))
    hypotheses = _translate(translator, sources, f"translating {name}")
    write_atomically(paths.eval / f"{name}.hyp", "".join(line + "\n" for line in hypotheses))
    scores = corpus_scores(hypotheses, references, config.languages.target)
    return {**scores, "checkpoint": Checkpoints(paths.checkpoints).resolve(checkpoint)}

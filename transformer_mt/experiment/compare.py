"""Runs compared on the same text: ``mt compare``."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.errors import ConfigError
from transformer_mt.experiment.scoring import chosen_sets, translated
from transformer_mt.experiment.significance import Difference, Result, Sentence, compare_systems, most_different
from transformer_mt.rundir import RunDirectory
from transformer_mt.terminal import bar, visible

_LABELS = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER"}
_EXAMPLES = 3  # sentences for each direction

Text = tuple[list[str], list[list[str]]]  # source lines, and references


@dataclass(frozen=True)
class Comparison:
    """Several runs on one set; the others are compared with the first."""

    runs: list[str]
    checkpoints: list[str]
    groups: list[list[int]]  # numbers of runs that differ in their seeds alone
    sentences: int
    results: dict[str, Result]  # by metric
    examples: list[tuple[list[Sentence], list[Sentence]]]  # for each run but the first: better, and worse

    def group_scores(self, metric: str) -> list[tuple[float, float | None]]:
        """Mean and standard deviation (n - 1; None for a single run) of the score in each group."""
        scores = [score.score for score in self.results[metric].scores]
        found = ([scores[number] for number in group] for group in self.groups)
        return [(statistics.mean(some), statistics.stdev(some) if len(some) > 1 else None) for some in found]

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain values."""
        metrics = self.results.items()
        runs = [
            {"run": run, "checkpoint": checkpoint, **{name: asdict(found.scores[n]) for name, found in metrics}}
            for n, (run, checkpoint) in enumerate(zip(self.runs, self.checkpoints, strict=True))
        ]
        groups: list[dict[str, Any]] = [{"runs": [self.runs[number] for number in group]} for group in self.groups]
        for name in self.results:
            for group, (mean, deviation) in zip(groups, self.group_scores(name), strict=True):
                group[name] = {"mean": mean, "deviation": deviation}
        differences: list[dict[str, Any]] = [
            {"run": run, "against": self.runs[0],
             **{name: {**asdict(found.differences[n]), "significant": found.differences[n].significant}
                for name, found in metrics},
             "better": [asdict(sentence) for sentence in better], "worse": [asdict(sentence) for sentence in worse]}
            for n, (run, (better, worse)) in enumerate(zip(self.runs[1:], self.examples, strict=True))
        ]  # fmt: skip
        signatures = {name: found.signatures for name, found in metrics}
        return {"sentences": self.sentences, "runs": runs, "groups": groups, "differences": differences,
                "signatures": signatures}  # fmt: skip


def compare(runs: Sequence[tuple[str, Config]], checkpoint: str, split: str) -> dict[str, Comparison]:
    """Translate the sets of a split, or one by its name, with each run, and compare the translations; by set.

    Translations go to ``eval/NAME.hyp`` of each run. Raises ConfigError when sources or references differ.
    """
    names, configs = [name for name, _ in runs], [config for _, config in runs]
    made = [Checkpoints(RunDirectory(Path(config.run_dir)).checkpoints).resolve(checkpoint) for config in configs]
    sets, *others = (chosen_sets(config, split) for config in configs)
    for name, other in zip(names[1:], others, strict=True):
        _check_same(sets, other, names[0], name)
    systems = {config.run_dir: (config, name) for config, name in zip(configs, made, strict=True)}
    hypotheses = {place: translated(*system, split) for place, system in systems.items()}
    language = configs[0].languages.target
    result = {}
    for name, (sources, references) in sets.items():
        texts = [hypotheses[config.run_dir][name].hypotheses for config in configs]
        with bar(f"comparing {name}", len(_LABELS), "metrics") as progress:
            results = compare_systems(texts, references, language, progress.advance)
        examples = [most_different(sources, references, texts[0], other, _EXAMPLES) for other in texts[1:]]
        result[name] = Comparison(names, made, _groups(configs), len(sources), results, examples)
    return result


def _check_same(sets: dict[str, Text], others: dict[str, Text], first: str, run: str) -> None:
    """Raise ConfigError where the text of a run's sets is not that of the first run's."""
    advice = "compare runs that have the same text"
    if list(sets) != list(others):
        raise ConfigError(f"{run}: has the sets {', '.join(others)}, but {first} has {', '.join(sets)}; {advice}")
    for name, (source, references) in sets.items():
        other_source, other_references = others[name]
        if len(references) != len(other_references):
            raise ConfigError(
                f"{run}: {name} has {len(other_references)} references, but {len(references)} in {first}; {advice}"
            )
        sides = {"source": (source, other_source)} | {
            f"reference {n}": both for n, both in enumerate(zip(references, other_references, strict=True), start=1)
        }
        for side, (ours, theirs) in sides.items():
            if len(ours) != len(theirs):
                raise ConfigError(f"{run}: {name} has {len(theirs)} lines, but {len(ours)} in {first}; {advice}")
            unequal = (n for n, pair in enumerate(zip(ours, theirs, strict=True), start=1) if pair[0] != pair[1])
            if (line := next(unequal, None)) is not None:
                raise ConfigError(f"{run}: {name}, {side}, line {line} is another one than in {first}; {advice}")


def _groups(configs: Sequence[Config]) -> list[list[int]]:
    """Numbers of the runs, together where all but the seed (and the directory) is the same.

    A seed that is there already starts a new group: a run compared with itself is no second run.
    """
    groups: list[tuple[dict[str, Any], list[int]]] = []
    for number, config in enumerate(configs):
        rest = config.model_dump(exclude={"seed", "run_dir"})
        fitting = (g for same, g in groups if same == rest and config.seed not in [configs[n].seed for n in g])
        if (group := next(fitting, None)) is None:
            groups.append((rest, group := []))
        group.append(number)
    return [group for _, group in groups]


def lines(comparison: Comparison) -> Iterator[str]:
    """The comparison for the terminal, line by line; names come last, for they may be long."""
    results, first = comparison.results, comparison.runs[0]
    yield "Scores, with 95 % intervals"
    rows = [
        [f"{found.scores[number].score:.2f} ± {found.scores[number].half_width:.2f}" for found in results.values()]
        + [f"{run} ({comparison.checkpoints[number]})"]
        for number, run in enumerate(comparison.runs)
    ]
    yield from _table([[*(_LABELS[name] for name in results), "run"], *rows])
    if len(comparison.groups) < len(comparison.runs):
        yield ""
        yield "Groups of runs that differ in the seed alone: mean (standard deviation)"
        yield from _table(list(_group_rows(comparison)))
    yield ""
    yield f"Difference from {first}, with 95 % intervals; p by bootstrap resampling and by approximate randomisation"
    rows = [
        [_LABELS[name], f"{found.difference:+.2f} ± {found.half_width:.2f}", f"p {found.p_bootstrap:.4f}",
         f"p {found.p_randomisation:.4f}", _verdict(name, found, run)]
        for number, run in enumerate(comparison.runs[1:])
        for name, found in ((name, result.differences[number]) for name, result in results.items())
    ]  # fmt: skip
    yield from _table(rows)
    for run, (better, worse) in zip(comparison.runs[1:], comparison.examples, strict=True):
        yield ""
        yield f"Sentences that differ most: chrF of {run} less that of {first}"
        if not better and not worse:
            yield "  none"
        for sentence in (*better, *worse):
            yield f"  {sentence.difference:+.1f}, line {sentence.line}"
            yield from _table([["  source", sentence.source], ["  reference", sentence.reference],
                               [f"  {first}", sentence.first], [f"  {run}", sentence.second]])  # fmt: skip
    yield ""
    for name, result in results.items():
        yield from (f"{_LABELS[name]}  {signature}" for signature in result.signatures)


def _group_rows(comparison: Comparison) -> Iterator[list[str]]:
    yield [*(_LABELS[name] for name in comparison.results), "runs"]
    scores = [comparison.group_scores(name) for name in comparison.results]
    for number, group in enumerate(comparison.groups):
        cells = (of_metric[number] for of_metric in scores)
        yield [f"{mean:.2f}" + (f" ({deviation:.2f})" if deviation is not None else "") for mean, deviation in cells] \
            + [", ".join(comparison.runs[run] for run in group)]  # fmt: skip
    for number in range(1, len(comparison.groups)):
        change = [f"{of_metric[number][0] - of_metric[0][0]:+.2f}" for of_metric in scores]
        yield [*change, f"group {number + 1} less group 1"]


def _verdict(metric: str, found: Difference, run: str) -> str:
    """What a difference means, in words; a lower TER is better."""
    if found.significant is None:
        return "unclear: the tests disagree at 95 %"
    if not found.significant:
        return f"{run}: no significant difference at 95 %"
    better = (found.difference > 0) != (metric == "ter")
    return f"{run} is {'better' if better else 'worse'}, significant at 95 %"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in aligned columns, two spaces apart and without control characters; the last column is free."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = (visible(cell) for cell in row)
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        yield "  " + "  ".join([*padded, last])

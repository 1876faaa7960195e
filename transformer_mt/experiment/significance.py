"""Whether systems differ: paired bootstrap resampling, approximate randomisation, and where they differ most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sacrebleu
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import estimate_ci

from transformer_mt.evaluate import metrics, paired_test

_RESAMPLES, _SEED = 1000, 12345  # as in sacreBLEU's tests
_LEVEL = 0.05


@dataclass(frozen=True)
class Score:
    """The score of one system on a set, and half its 95 % interval."""

    score: float
    half_width: float


@dataclass(frozen=True)
class Difference:
    """A system's score less that of the first: half its 95 % interval, and p by both tests."""

    difference: float
    half_width: float
    p_bootstrap: float
    p_randomisation: float

    @property
    def significant(self) -> bool | None:
        """At 95 %; None where the tests disagree."""
        sure = {self.p_bootstrap < _LEVEL, self.p_randomisation < _LEVEL}
        return sure.pop() if len(sure) == 1 else None


@dataclass(frozen=True)
class Result:
    """What a metric says of several systems: one score each, and one difference for each but the first."""

    scores: list[Score]
    differences: list[Difference]
    signatures: list[str]


@dataclass(frozen=True)
class Sentence:
    """A sentence that two systems translate differently, and by how much the second's chrF is higher."""

    line: int  # from 1
    difference: float
    source: str
    reference: str
    first: str
    second: str


def compare_systems(
    systems: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    language: str,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Result]:
    """BLEU, chrF and TER of systems that translate the same lines, and the others compared with the first.

    The tests are sacreBLEU's: bootstrap resampling (Koehn 2004) and approximate randomisation (Riezler and Maxwell
    2005). ``advance`` is called after each of the three metrics.
    """
    results = {}
    for name, metric in metrics(language).items():
        by_bootstrap, bootstrap = paired_test(systems, references, metric, "bs")
        by_randomisation, randomisation = paired_test(systems, references, metric, "ar")
        scores = [Score(float(found.score), float(found.ci or 0.0)) for found in bootstrap]
        first, *others = (_statistics(metric, lines, references) for lines in systems)
        differences = []
        for number, other in enumerate(others, start=1):
            difference = scores[number].score - scores[0].score
            different = int((first != other).any(axis=1).sum())
            p_values = (
                p_value(float(found[number].p_value or 0.0), difference, different)
                for found in (bootstrap, randomisation)
            )
            differences.append(Difference(difference, _half_width(metric, first, other), *p_values))
        results[name] = Result(scores, differences, [str(by_bootstrap), str(by_randomisation)])
        advance()
    return results


def p_value(estimated: float, difference: float, different: int) -> float:
    """The p-value of a paired test as sacreBLEU estimates it, made true where few sentences differ.

    It counts trials that exceed the difference, and not those that equal it: of equal systems it would be sure. When
    only k sentences differ, 2 of the 2^k ways to exchange them give the whole difference, so p is 2^(1-k) at least.
    """
    return max(estimated, 2.0 ** (1 - different)) if difference else 1.0


def _statistics(metric: Metric, lines: Sequence[str], references: Sequence[Sequence[str]]) -> npt.NDArray[Any]:
    """The counts of each sentence, [sentences, counts], whose sum gives the score of a set."""
    return np.array(metric._extract_corpus_statistics(lines, references))


def _half_width(metric: Metric, first: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Half the 95 % interval of the difference, both systems resampled alike."""
    sentences = len(first)
    draws = np.random.default_rng(_SEED).multinomial(sentences, np.full(sentences, 1 / sentences), _RESAMPLES)
    scores = [[metric._compute_score_from_stats(sums).score for sums in draws @ counts] for counts in (first, other)]
    return float(estimate_ci(np.array(scores[1]) - np.array(scores[0]))[1])


def most_different(
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    first: Sequence[str],
    second: Sequence[str],
    count: int,
) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences whose chrF the second system raises most, and those whose chrF it lowers most, such first."""
    chrf = sacrebleu.CHRF()
    changed = []
    for number, (ours, theirs) in enumerate(zip(first, second, strict=True)):
        gold = [lines[number] for lines in references]
        if ours != theirs:
            gain = chrf.sentence_score(theirs, gold).score - chrf.sentence_score(ours, gold).score
            changed.append(Sentence(number + 1, float(gain), sources[number], gold[0], ours, theirs))
    changed.sort(key=lambda sentence: -sentence.difference)
    better = [sentence for sentence in changed if sentence.difference > 0]
    worse = [sentence for sentence in reversed(changed) if sentence.difference < 0]
    return better[:count], worse[:count]

"""Comparing systems: what the tests say of equal, better and nearly equal ones, and the sentences that differ."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.significance import PairedTest

from tests.conftest import toy_tree
from transformer_mt import evaluate
from transformer_mt.config import Config
from transformer_mt.experiment import compare, significance
from transformer_mt.experiment.significance import Difference, Result, Score

WORDS = ["mako", "bilu", "tofi", "rane", "suda", "gipe", "lomu", "veka"]


def text(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(5, 9))) for _ in range(count)]


def damaged(lines: list[str], share: float, seed: int) -> list[str]:
    """The lines with a share of the words replaced."""
    draw = random.Random(seed)
    return [" ".join("zzz" if draw.random() < share else word for word in line.split()) for line in lines]


REFERENCES = text(60)


@pytest.fixture(autouse=True)
def _fewer_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here does not need ten thousand."""
    monkeypatch.setitem(PairedTest._DEFAULT_SAMPLES, "ar", 500)


def test_a_system_does_not_differ_from_itself() -> None:
    system = damaged(REFERENCES, 0.2, seed=1)
    for result in significance.compare_systems([system, system], [REFERENCES], "yy").values():
        assert result.scores[0] == result.scores[1]
        assert result.differences == [Difference(0.0, 0.0, 1.0, 1.0)]
        assert result.differences[0].significant is False


def test_a_clearly_better_system_is_significantly_better_by_both_tests() -> None:
    bad, good = damaged(REFERENCES, 0.4, seed=1), damaged(REFERENCES, 0.1, seed=2)
    for name, result in significance.compare_systems([bad, good], [REFERENCES], "yy").items():
        [found] = result.differences
        assert found.significant
        assert found.difference == pytest.approx(result.scores[1].score - result.scores[0].score)
        assert (found.difference > 0) == (name != "ter")
        assert 0 < found.half_width < abs(found.difference)  # the interval does not reach zero


def test_two_systems_of_equal_quality_do_not_differ_significantly() -> None:
    systems = [damaged(REFERENCES, 0.3, seed=seed) for seed in (1, 3)]
    for result in significance.compare_systems(systems, [REFERENCES], "yy").values():
        assert not result.differences[0].significant


def test_one_changed_sentence_proves_nothing() -> None:
    """Exchanged or not, it gives the same difference without its sign: the exact p is 1."""
    system = damaged(REFERENCES, 0.2, seed=1)
    for result in significance.compare_systems([["zzz", *system[1:]], system], [REFERENCES], "yy").values():
        assert result.differences[0].difference != 0
        assert result.differences[0].p_randomisation == 1.0


def exact_p(differences: list[int]) -> float:
    """Of all ways to give each difference a sign, the share whose sum is at least as far from zero."""
    sums = [0]
    for difference in differences:
        sums = [total + sign * difference for total in sums for sign in (1, -1)]
    return float(np.mean([abs(total) >= abs(sum(differences)) for total in sums]))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=10))
def test_the_least_p_value_is_that_of_a_system_better_in_every_sentence_that_differs(gains: list[int]) -> None:
    assert significance.p_value(0.0, sum(gains), len(gains)) == exact_p(gains)


def test_p_values_of_many_different_sentences_are_sacrebleus() -> None:
    assert significance.p_value(0.0123, -1.5, 100) == 0.0123


def test_systems_are_paired_sentence_by_sentence() -> None:
    """A system that is a little better everywhere is surely better, though the sentences' quality varies much."""
    uneven = [line if n % 2 else "zzz" for n, line in enumerate(REFERENCES)]
    better = [line if n % 2 else "zzz " + REFERENCES[n].split()[0] for n, line in enumerate(uneven)]
    chrf = significance.compare_systems([uneven, better], [REFERENCES], "yy")["chrf"]
    [found] = chrf.differences
    assert found.difference < chrf.scores[0].half_width  # of two sets of sentences it could be chance
    assert found.significant
    assert found.half_width < found.difference


def test_sentences_that_differ_most_by_chrf() -> None:
    references = ["mako bilu tofi", "rane suda gipe", "lomu veka mako", "bilu tofi rane", "suda"]
    first = ["mako bilu tofi", "zzz", "lomu veka zzz", "bilu tofi rane", "yyy"]
    second = ["zzz", "rane suda gipe", "lomu veka mako", "bilu tofi rane", "xxx"]
    better, worse = significance.most_different(["a", "b", "c", "d", "e"], [references], first, second, 3)
    assert [(s.line, s.source, s.first, s.second) for s in better] == [
        (2, "b", "zzz", "rane suda gipe"),
        (3, "c", "lomu veka zzz", "lomu veka mako"),
    ]
    assert [(s.line, s.reference) for s in worse] == [(1, "mako bilu tofi")]
    assert worse[0].difference == pytest.approx(-100)
    best, _ = significance.most_different(["a", "b", "c", "d", "e"], [references], first, second, 1)
    assert best == better[:1]


def configuration(seed: int, layers: int) -> Config:
    tree = toy_tree(Path("text"), Path(f"run-{seed}-{layers}"), model={"layers": layers}, seed=seed)
    return Config.model_validate(tree)


def test_runs_that_differ_in_the_seed_alone_are_a_group() -> None:
    configs = [configuration(seed, layers) for seed, layers in ((1, 1), (2, 1), (1, 2), (3, 1), (2, 2), (1, 1))]
    assert compare._groups(configs) == [[0, 1, 3], [2, 4], [5]]  # the last is the first again: no second run


def comparison(bleu: list[float], groups: list[list[int]]) -> compare.Comparison:
    """Of runs of given scores, none of which differs from the first but by a tenth."""
    results = {
        name: Result([Score(score, 1.5) for score in bleu], [Difference(0.1, 0.5, 0.7, 0.8)] * (len(bleu) - 1), ["s"])
        for name in ("bleu", "chrf", "ter")
    }
    runs = [f"run{n}" for n in range(len(bleu))]
    return compare.Comparison(runs, ["step-1"] * len(bleu), groups, 7, results, [([], [])] * (len(bleu) - 1))


def test_mean_and_deviation_of_a_group_by_hand() -> None:
    """20, 22, 27: mean 23, squares of the distances 9 + 1 + 16, halved 13. 30, 31: mean 30.5, 1/4 + 1/4."""
    found = comparison([20, 22, 27, 30, 31], [[0, 1, 2], [3, 4]])
    assert found.group_scores("bleu") == [pytest.approx((23, 13**0.5)), pytest.approx((30.5, 0.5**0.5))]
    out = "\n".join(compare.lines(found))
    assert "  23.00 (3.61)  23.00 (3.61)  23.00 (3.61)  run0, run1, run2\n" in out
    assert "  +7.50         +7.50         +7.50         group 2 less group 1\n" in out
    assert "run4: no significant difference at 95 %" in out


def test_a_single_run_has_no_deviation() -> None:
    found = comparison([20, 22], [[0], [1]])
    assert found.group_scores("bleu") == [(20, None), (22, None)]
    assert "Groups" not in "\n".join(compare.lines(found))


@pytest.mark.parametrize(
    ("metric", "difference", "p_values", "words"),
    [
        ("bleu", 1.0, (0.01, 0.02), "run is better, significant at 95 %"),
        ("bleu", -1.0, (0.01, 0.02), "run is worse, significant at 95 %"),
        ("ter", -1.0, (0.01, 0.02), "run is better, significant at 95 %"),
        ("bleu", 1.0, (0.06, 0.05), "run: no significant difference at 95 %"),
        ("bleu", 1.0, (0.06, 0.04), "unclear: the tests disagree at 95 %"),
    ],
)
def test_the_verdict_in_words(metric: str, difference: float, p_values: tuple[float, float], words: str) -> None:
    assert compare._verdict(metric, Difference(difference, 0.5, *p_values), "run") == words


def test_the_confidence_of_one_system_is_that_of_sacrebleus_bootstrap() -> None:
    """Independently: resample sentences, score each sample as a whole; the interval is nearly the same."""
    system = damaged(REFERENCES, 0.2, seed=1)
    draw, samples = random.Random(5), []
    for _ in range(200):
        chosen = draw.choices(range(len(system)), k=len(system))
        score = sacrebleu.CHRF().corpus_score([system[n] for n in chosen], [[REFERENCES[n] for n in chosen]])
        samples.append(score.score)
    samples.sort()
    found = evaluate.confidence(system, [REFERENCES], "yy")
    assert set(found) == {"bleu", "chrf", "ter"}
    mean, half_width = found["chrf"]
    assert mean == pytest.approx(np.mean(samples), abs=0.3)
    assert half_width == pytest.approx((samples[194] - samples[5]) / 2, rel=0.25)

"""The data doctor finds planted faults, says where they are, and is silent on text without fault."""

from __future__ import annotations

import dataclasses
import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_mt.config import Languages
from transformer_mt.data.doctor.examination import Examination, Finding, examine, normalise

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = Languages(source="xx", target="yy")
SIZE = 2_000
PLANTED = 20

Side = list[str]


def world(size: int, seed: int = 0) -> tuple[Side, Side]:
    """Different pairs of two toy languages of 300 words each; a word has one translation, the order is opposite."""
    draw = random.Random(seed)
    dictionary: dict[str, str] = {}
    while len(dictionary) < 300:
        word = "".join(draw.choice(["ka", "te", "ri", "mo", "su", "lan", "bek"]) for _ in range(draw.randint(1, 4)))
        dictionary[word] = "".join(
            draw.choice(["osh", "ung", "ey", "ith", "ard", "wo"]) for _ in range(draw.randint(1, 3))
        )
    words = list(dictionary)
    frequency = [1 / (rank + 5) for rank in range(len(words))]  # Zipf and Mandelbrot
    pairs: dict[str, str] = {}
    while len(pairs) < size:
        chosen = draw.choices(words, frequency, k=draw.randint(4, 14))
        pairs[" ".join(chosen).capitalize() + "."] = " ".join(dictionary[w] for w in chosen[::-1]).capitalize() + "."
    return list(pairs), list(pairs.values())


@pytest.fixture(scope="module")
def clean() -> tuple[Side, Side]:
    return world(SIZE)


@pytest.fixture(scope="module")
def evaluation() -> dict[str, tuple[Side, Side]]:
    return {"test": world(500, seed=1)}


def own_corpus(split: str) -> tuple[Side, Side]:
    de, en = ((ROOT / "data" / f"{split}.{side}").read_text(encoding="utf-8").split("\n")[:-1] for side in ("de", "en"))
    return de, en


def look(sources: Side, targets: Side, evaluation: dict[str, tuple[Side, Side]] | None = None) -> Examination:
    return examine(sources, targets, LANGUAGES, evaluation or {}, ("train.xx", "train.yy"))


def only_problem(examination: Examination, kind: str) -> Finding:
    assert [finding.kind for finding in examination.problems] == [kind]
    return examination.problems[0]


def cyrillic(line: str) -> str:
    return "".join(chr(0x430 + ord(c) % 32) if c.isalpha() else c for c in line)


def test_nothing_is_wrong_with_clean_text(clean: tuple[Side, Side], evaluation: dict[str, tuple[Side, Side]]) -> None:
    assert look(*clean, evaluation).findings == []


def test_nothing_is_wrong_with_the_own_corpus() -> None:
    examination = look(*own_corpus("train"), {name: own_corpus(name) for name in ("valid", "test")})
    assert examination.pairs == 20_000
    assert examination.findings == []


@pytest.mark.parametrize("count", [0, 1, 2, 19, 100])
def test_little_text_is_no_fault(count: int, clean: tuple[Side, Side]) -> None:
    examination = look(clean[0][:count], clean[1][:count], {"test": ([], [])})
    assert not examination.problems
    assert examination.pairs == count


def test_text_without_letters_is_examined() -> None:
    assert look(["", "…", "\x0b", "🙂"] * 50, ["", "1", "\u2028", "?"] * 50).empty == {"source": 100, "target": 100}


# -- Shifted


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("first", [0, 1_000, 1_733, SIZE - PLANTED])
@pytest.mark.parametrize("late", [True, False])
def test_a_shifted_stretch_is_found_where_it_is(clean: tuple[Side, Side], side: int, first: int, late: bool) -> None:
    lines = [list(clean[0]), list(clean[1])]
    last = first + PLANTED - 1
    block = lines[side][first : last + 1]
    lines[side][first : last + 1] = [block[-1], *block[:-1]] if late else [*block[1:], block[0]]
    message = only_problem(look(lines[0], lines[1]), "shifted").message
    where, words = message.split(": ", 1)
    begin, end = map(int, where.removeprefix("train.yy:").split("-"))
    assert abs(begin - 1 - first) <= 2
    assert abs(end - 1 - last) <= 2
    assert f"target 1 line {'later' if late == (side == 1) else 'earlier'}" in words


@pytest.mark.parametrize("order", [str, len], ids=["alphabet", "length"])
def test_sorted_text_is_judged_like_any_other(clean: tuple[Side, Side], order: type[str]) -> None:
    sources, targets = map(list, zip(*sorted(zip(*clean, strict=True), key=lambda pair: order(pair[0])), strict=True))
    assert look(sources, targets).findings == []
    targets[900:930] = targets[901:931]
    assert "train.yy:9" in only_problem(look(sources, targets), "shifted").message


@pytest.mark.parametrize("offset", [1, -1, 3])
def test_a_wholly_shifted_file_is_one_finding(clean: tuple[Side, Side], offset: int) -> None:
    rolled = clean[1][-offset:] + clean[1][:-offset]  # the target of line i is line i + offset
    message = only_problem(look(clean[0], rolled), "shifted").message
    assert f"target {abs(offset)} line" in message
    assert ("later" if offset > 0 else "earlier") in message


def test_a_shift_to_the_end_of_the_file_is_found(clean: tuple[Side, Side]) -> None:
    targets = [*clean[1][:300], *clean[1][301:], "A line at the end."]  # that of line 301 is gone
    where = only_problem(look(clean[0], targets), "shifted").message.split(": ")[0]
    assert where in ("train.yy:301-2000", "train.yy:302-2000")


def test_unrelated_lines_are_a_problem(clean: tuple[Side, Side]) -> None:
    only_problem(look(clean[0], random.Random(3).sample(clean[1], SIZE)), "unrelated")


def test_of_text_with_few_words_it_is_not_said_that_its_lines_are_unrelated() -> None:
    draw = random.Random(4)
    digits = [[str(draw.randrange(10)) for _ in range(8)] for _ in range(SIZE)]
    assert not look([" ".join(line) for line in digits], [" ".join(line[::-1]) for line in digits]).problems


# -- Swapped, and in another script


@pytest.mark.parametrize("seed", [1, 2])
def test_swapped_pairs_are_counted(clean: tuple[Side, Side], seed: int) -> None:
    sources, targets = list(clean[0]), list(clean[1])
    rows = random.Random(seed).sample(range(SIZE), SIZE // 20)
    for row in rows:
        sources[row], targets[row] = targets[row], sources[row]
    finding = only_problem(look(sources, targets), "swapped")
    assert f": {len(rows)} pairs (5 %)" in finding.message
    assert all(int(example.split(":")[0].removeprefix("line ")) - 1 in rows for example in finding.examples)


def test_untranslated_lines_are_a_note(clean: tuple[Side, Side]) -> None:
    targets = [source if row % 100 == 7 else target for row, (source, target) in enumerate(zip(*clean, strict=True))]
    examination = look(clean[0], targets)
    assert not examination.problems
    assert [finding.message.split(" lines")[0] for finding in examination.findings] == ["train.yy: 20"]
    assert examination.copies == 20


@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_lines_of_another_script_are_found_on_their_side(clean: tuple[Side, Side], sides: tuple[int, ...]) -> None:
    lines = [list(clean[0]), list(clean[1])]
    for row in range(5, SIZE, 50):
        for side in sides:
            lines[side][row] = cyrillic(lines[side][row])
    problems = look(lines[0], lines[1]).problems
    assert [(p.kind, p.message.split(" lines")[0]) for p in problems] == [
        ("script", f"{('train.xx', 'train.yy')[side]}: 40") for side in sides
    ]


def test_latin_lines_are_strange_among_japanese_ones_but_names_are_not(clean: tuple[Side, Side]) -> None:
    kana = [line.translate({code: 0x3042 + code % 40 for code in range(97, 123)}).replace(" ", "") for line in clean[0]]
    assert look([f"{line} WHO" for line in kana], clean[1]).findings == []
    problems = look([clean[1][row - 1] if row % 50 == 9 else line for row, line in enumerate(kana)], clean[1]).problems
    assert [p.kind for p in problems] == ["script"]


def test_two_scripts_of_one_language_are_both_at_home(clean: tuple[Side, Side]) -> None:
    rows = range(SIZE)
    mixed = [cyrillic(line) if row % 10 == 0 else line for row, line in zip(rows, clean[0], strict=True)]
    found = [examine(mixed, clean[1], Languages(source=code, target="yy"), {}).problems for code in ("sr", "hr")]
    assert [[problem.kind for problem in problems] for problems in found] == [[], ["script"]]


# -- Leakage


@pytest.mark.parametrize(
    "disguise",
    [str, str.upper, lambda line: line.replace(" ", "  ").replace(".", " !")],
    ids=["exact", "case", "signs"],
)
def test_planted_test_pairs_are_found(
    clean: tuple[Side, Side], evaluation: dict[str, tuple[Side, Side]], disguise: type[str]
) -> None:
    sources, targets = list(clean[0]), list(clean[1])
    for row in range(PLANTED):
        sources[50 * row], targets[50 * row] = (disguise(evaluation["test"][side][3 * row]) for side in (0, 1))
    examination = look(sources, targets, evaluation)
    leak = examination.leaks["test"]
    only_problem(examination, "leakage")
    assert (leak.size, leak.normalised_pairs, leak.pairs) == (500, PLANTED, PLANTED if disguise is str else 0)
    assert leak.lines == [3 * row + 1 for row in range(PLANTED)]
    assert leak.training == [50 * row + 1 for row in range(PLANTED)]


def test_planted_sources_with_other_targets_are_a_problem(
    clean: tuple[Side, Side], evaluation: dict[str, tuple[Side, Side]]
) -> None:
    sources = [evaluation["test"][0][row // 100] if row % 100 == 0 else line for row, line in enumerate(clean[0])]
    examination = look(sources, clean[1], evaluation)
    only_problem(examination, "leakage")
    assert (examination.leaks["test"].sources, examination.leaks["test"].pairs) == (20, 0)


def test_one_common_pair_and_short_ones_are_no_problem(clean: tuple[Side, Side]) -> None:
    short = [f"No {word}." for word in "abcdefgh"]
    test = ([*short, clean[0][5], *world(500, seed=2)[0]], [*short, clean[1][5], *world(500, seed=2)[1]])
    examination = look([*clean[0], *short], [*clean[1], *short], {"test": test})
    assert not examination.problems
    assert examination.leaks["test"].lines == [9]


def test_normalising_leaves_letters_and_digits() -> None:
    lines = ["Ｈello,  „Straße“ №5!", "", "…", "ｶﾞ、ガ。", "a\u0301 á", "हिन्दी।"]
    assert normalise(lines) == ["hellostrasseno5", "", "", "ガガ", "áá", "हिन्दी"]


# -- Counts


def test_counts_are_those_of_a_naive_count() -> None:
    sources = ["a b", "a b", "a b", "c", "", "same", "  "]
    targets = ["x", "x", "y", "x", "z", "same", "x" * 5_000]
    examination = look(sources, targets)
    assert examination.duplicates == {"pairs": 1, "source": 2, "target": 2}
    assert examination.ambiguous == {"source": 1, "target": 1}
    assert (examination.copies, examination.empty) == (1, {"source": 2, "target": 0})
    assert examination.longest == {"source": (6, 4), "target": (7, 5_000)}
    for histogram, measure in ((examination.characters, len), (examination.words, lambda line: len(line.split()))):
        for side, lines in ((histogram.source, sources), (histogram.target, targets)):
            bounds = [*histogram.edges[:-1], 10**9]
            naive = [sum(a <= measure(line) < b for line in lines) for a, b in pairwise(bounds)]
            assert side == naive


def test_many_duplicates_are_a_note(clean: tuple[Side, Side]) -> None:
    examination = look(clean[0] + clean[0][:500], clean[1] + clean[1][:500])
    assert [(finding.kind, finding.severity) for finding in examination.findings] == [("duplicates", "note")]


def test_an_examination_is_json(clean: tuple[Side, Side], evaluation: dict[str, tuple[Side, Side]]) -> None:
    tree = json.loads(json.dumps(dataclasses.asdict(look(*clean, evaluation))))
    assert tree["pairs"] == SIZE
    assert tree["leaks"]["test"]["size"] == 500


@settings(max_examples=8)
@given(st.integers(0, 1_000), st.integers(0, SIZE - PLANTED), st.sampled_from(["none", "shift", "swap", "script"]))
def test_both_sides_exchanged_the_same_is_found(seed: int, first: int, fault: str) -> None:
    sources, targets = world(SIZE, seed)
    rows = slice(first, first + PLANTED)
    if fault == "shift":
        targets[rows] = list(np.roll(targets[rows], 1))
    elif fault == "swap":
        sources[rows], targets[rows] = targets[rows], sources[rows]
    elif fault == "script":
        sources[rows] = map(cyrillic, sources[rows])
    one, other = look(sources, targets), look(targets, sources)
    assert [problem.kind for problem in one.problems] == [problem.kind for problem in other.problems]
    kinds = {"none": [], "shift": ["shifted"], "swap": ["swapped"], "script": ["script"]}
    assert [problem.kind for problem in one.problems] == kinds[fault]
    assert one.characters.source == other.characters.target

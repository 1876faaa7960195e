"""Segmentations drawn at random follow the distributions of the papers, and a seed gives the same ones everywhere."""

from __future__ import annotations

import functools
import math
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt import config
from transformer_mt.data import sampling as module
from transformer_mt.data.sampling import Sampler
from transformer_mt.data.tokenizer import Tokenizer, learn

Kind = Literal["unigram", "bpe"]
KINDS = get_args(Kind)
DRAWS = 6_000
Outcome = tuple[int, ...]


@functools.cache
def tokenizer(kind: Kind) -> Tokenizer:
    draw = random.Random(1)
    syllables = ["ba", "bar", "nana", "sto", "st", "on", "io", "ine", "の", "犬", "犬が", "走る"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(150)]
    lines = [" ".join(draw.choices(words, k=draw.randint(3, 9))) + "." for _ in range(300)]
    settings = config.Tokenizer(kind=kind, vocab_size=340, normalization="nmt_nfkc")
    return learn(lambda: iter(lines), lambda: iter(lines), len(lines), settings, 1)


def model(kind: Kind) -> Any:
    return tokenizer(kind).source


# --- independent and naive: all segmentations, with their probabilities


def vocabulary(model: Any) -> dict[str, int]:
    kinds = (model.is_control, model.is_unknown, model.is_byte)
    return {model.id_to_piece(i): i for i in range(len(model)) if not any(kind(i) for kind in kinds)}


def written(model: Any, piece: str) -> Outcome:
    """The id of a piece, or those of the bytes of a character."""
    number = vocabulary(model).get(piece)
    return tuple(model.piece_to_id(f"<0x{b:02X}>") for b in piece.encode()) if number is None else (number,)


def unigram_distribution(model: Any, line: str, alpha: float) -> dict[Outcome, float]:
    known = {piece: model.get_score(number) for piece, number in vocabulary(model).items()}
    unknown = min(known.values()) - 10

    def all_ways(text: str) -> list[tuple[Outcome, float]]:
        found: list[tuple[Outcome, float]] = [] if text else [((), 0.0)]
        for end in range(1, len(text) + 1):
            piece = text[:end]
            if piece in known or end == 1:
                score = known.get(piece, unknown)
                found += [(written(model, piece) + ids, score + rest) for ids, rest in all_ways(text[end:])]
        return found

    weights: dict[Outcome, float] = defaultdict(float)
    for ids, score in all_ways(model.normalize(line)):
        weights[ids] += math.exp(alpha * score)
    total = sum(weights.values())
    return {ids: weight / total for ids, weight in weights.items()}


def bpe_distribution(model: Any, line: str, alpha: float) -> dict[Outcome, float]:
    """Step by step: of the merges that are possible and not left out before, the best and leftmost has its turn."""
    known = vocabulary(model)
    result: dict[Outcome, float] = defaultdict(float)

    def step(pieces: tuple[str, ...], left_out: frozenset[tuple[int, int, int]], probability: float) -> None:
        places = [sum(map(len, pieces[:number])) for number in range(len(pieces) + 1)]
        merges = []
        for number in range(len(pieces) - 1):
            place = (places[number], places[number + 1], places[number + 2])
            merged = pieces[number] + pieces[number + 1]
            if merged in known and place not in left_out:
                merges.append((-model.get_score(known[merged]), number, place))
        if not merges:
            result[tuple(i for piece in pieces for i in written(model, piece))] += probability
            return
        _, number, place = min(merges)
        merged = pieces[number] + pieces[number + 1]
        step((*pieces[:number], merged, *pieces[number + 2 :]), left_out, probability * (1 - alpha))
        step(pieces, left_out | {place}, probability * alpha)

    step(tuple(model.normalize(line)), frozenset(), 1.0)
    return result


def counts(sampler: Sampler, line: str, seed: int = 1) -> Counter[Outcome]:
    return Counter(map(tuple, sampler.sample([line] * DRAWS, seed)))


LINES = ["barba", "stonio", "nanana", "ba on", "犬が走るの", "on🦊io", "ﬁ sto", "a"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    ("kind", "alpha"), [("unigram", 1.0), ("unigram", 0.2), ("unigram", 0.0), ("bpe", 0.1), ("bpe", 0.5)], ids=str
)
def test_frequencies_are_the_probabilities_of_all_segmentations(kind: Kind, alpha: float, line: str) -> None:
    """Within five standard errors, and nothing is drawn that is impossible."""
    expected = (unigram_distribution if kind == "unigram" else bpe_distribution)(model(kind), line, alpha)
    assert sum(expected.values()) == pytest.approx(1)
    drawn = counts(Sampler(model(kind), alpha), line)
    assert set(drawn) <= set(expected)
    for ids, probability in expected.items():
        error = math.sqrt(probability * (1 - probability) / DRAWS)
        assert drawn[ids] / DRAWS == pytest.approx(probability, abs=5 * error + 2 / DRAWS), ids


def test_the_lines_of_these_tests_can_be_segmented_in_several_ways() -> None:
    for line in LINES[:5]:
        assert len(unigram_distribution(model("unigram"), line, 1.0)) > 3
        assert len(bpe_distribution(model("bpe"), line, 0.5)) > 3


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("kind", "alpha"), [("unigram", 0.3), ("bpe", 0.2)])
def test_sentencepiece_draws_with_the_same_frequencies(kind: Kind, alpha: float, line: str) -> None:
    """Its seed means something else in every process: six standard errors of the difference."""
    ours = counts(Sampler(model(kind), alpha), line)
    theirs = Counter(
        map(tuple, model(kind).encode([line] * DRAWS, enable_sampling=True, alpha=alpha, nbest_size=-1, num_threads=1))
    )
    for ids in set(ours) | set(theirs):
        share = (ours[ids] + theirs[ids]) / (2 * DRAWS)
        error = math.sqrt(2 * share * (1 - share) / DRAWS)
        assert abs(ours[ids] - theirs[ids]) / DRAWS <= 6 * error + 8 / DRAWS, ids


TEXT = st.text(st.sampled_from("bastonire .の犬が走るe\u0301ﬁ①🦊👩\u200d\u2581\t\u3000</s>")) | st.text(
    st.characters(exclude_categories=["Cs"])
)


@given(st.lists(TEXT, max_size=5))
def test_without_dropout_bpe_gives_the_plain_encoding(lines: list[str]) -> None:
    assert Sampler(model("bpe"), 0.0).sample(lines, 1) == model("bpe").encode(lines)


@given(st.lists(TEXT, max_size=5))
def test_with_a_large_alpha_unigram_gives_the_likeliest_segmentation(lines: list[str]) -> None:
    """That of SentencePiece, or one as likely."""
    unigram = model("unigram")
    for ids, best in zip(Sampler(unigram, 1e4).sample(lines, 1), unigram.encode(lines), strict=True):
        scores = [sum(unigram.get_score(i) for i in pieces) for pieces in (ids, best)]
        assert ids == best or scores[0] == pytest.approx(scores[1], abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
@given(lines=st.lists(TEXT, max_size=5), seed=st.integers(0, 1 << 40))
def test_whatever_is_drawn_is_the_same_text(kind: Kind, lines: list[str], seed: int) -> None:
    drawn = Sampler(model(kind), 0.4).sample(lines, seed)
    assert [model(kind).decode(ids) for ids in drawn] == [model(kind).decode(ids) for ids in model(kind).encode(lines)]
    special = set(range(len(model(kind)))) - set(vocabulary(model(kind)).values())
    assert not [i for ids in drawn for i in ids if i in special and not model(kind).is_byte(i)]


def long_line(length: int) -> str:
    return "".join(random.Random(2).choices("bastonire", k=length))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_line_without_spaces_is_one_segment_among_others(kind: Kind) -> None:
    lines = [long_line(30_000), "", "ba on", long_line(30)]
    drawn = Sampler(model(kind), 0.2).sample(lines, 1)
    assert [model(kind).decode(ids) for ids in drawn] == lines


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_kept_of_segments_changes_no_draw(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [*LINES * 5, long_line(60)]
    sampler = Sampler(model(kind), 0.3)
    expected = [sampler.sample(lines, seed) for seed in range(9)]
    assert [sampler.sample(lines, seed) for seed in range(9)] == expected
    for limit, value in (("_KEPT", 0), ("_KEPT", 7), ("_SHORT", 3), ("_SHORT", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(module, limit, value)
            sampler = Sampler(model(kind), 0.3)
            assert [sampler.sample(lines, seed) for seed in range(9)] == expected, limit


PROGRAM = """
import sys
from pathlib import Path
from transformer_mt.data.tokenizer import Tokenizer
tokenizer = Tokenizer.load(Path(sys.argv[1]))
lines = Path(sys.argv[2]).read_text("utf-8").splitlines()
print([sample(lines, 0.3, 7) for sample in (tokenizer.sample_source, tokenizer.sample_target)])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_draws_the_same(kind: Kind, tmp_path: Path) -> None:
    """SentencePiece's own generator does not: a resumed run would train on other pieces than an uninterrupted one."""
    lines = [*LINES, *(" ".join(LINES) for _ in range(20))]
    (tmp_path / "lines").write_text("\n".join(lines), "utf-8")
    tokenizer(kind).save(tmp_path)
    here = str([sample(lines, 0.3, 7) for sample in (tokenizer(kind).sample_source, tokenizer(kind).sample_target)])
    for number in "12":
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "lines")],
            env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert process.stdout.strip() == here

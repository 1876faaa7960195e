"""Greedy and beam search on distributions small enough for paper and pencil."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from transformer_mt.decoding.beam import beam_search
from transformer_mt.decoding.greedy import greedy
from transformer_mt.decoding.hypothesis import Hypothesis
from transformer_mt.special import EOS

A, B, V = 4, 5, 6  # two words, and a vocabulary with the four special tokens
NEVER = 1e-30


@dataclass
class TableState:
    """What each row has written so far."""

    written: list[tuple[int, ...]]

    def select(self, rows: Tensor) -> None:
        self.written = [self.written[int(row)] for row in rows.flatten()]


class TableModel:
    """A model that reads its distributions, (end, A, B) after each beginning, from a table; hidden are its logits."""

    position_limit: int | None = None

    def __init__(self, table: dict[tuple[int, ...], tuple[float, float, float]]) -> None:
        self.table = table

    def encode(self, source: Tensor) -> Tensor:
        return source

    def start(self, memory: Tensor) -> TableState:
        return TableState([() for _ in memory])

    def step(self, ids: Tensor, state: TableState) -> tuple[Tensor, TableState]:
        state.written = [
            (*beginning, int(token)) if token in (A, B) else beginning
            for beginning, token in zip(state.written, ids, strict=True)
        ]
        logits = torch.full((len(ids), V), math.log(NEVER))
        for row, beginning in enumerate(state.written):
            for token, p in zip((EOS, A, B), self.table.get(beginning, (1 - 2 * NEVER, NEVER, NEVER)), strict=True):
                logits[row, token] = math.log(max(p, NEVER))
        return logits, state

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def likeliest(self, hidden: Tensor, *, may_end: bool) -> Tensor:
        allowed = torch.tensor([may_end or token != EOS for token in range(V)])
        return hidden.where(allowed, float("-inf")).argmax(1)


# Greedy takes A (0.6) and then ends at 0.6 · 0.4; beam 2 finds B, end at 0.4 · 0.9 = 0.36.
GARDEN_PATH = {
    (): (0.0, 0.6, 0.4),
    (A,): (0.4, 0.3, 0.3),
    (B,): (0.9, 0.05, 0.05),
    (A, A): (1.0, 0.0, 0.0),
    (A, B): (1.0, 0.0, 0.0),
}
SOURCE = torch.tensor([[7, EOS]])


def words(hypotheses: list[Hypothesis]) -> list[list[int]]:
    return [h.ids for h in hypotheses]


def test_greedy_takes_the_likeliest_word_each_time() -> None:
    (hypothesis,) = greedy(TableModel(GARDEN_PATH), SOURCE, length_penalty=0)
    assert hypothesis.ids == [A]
    assert hypothesis.log_probability == pytest.approx(math.log(0.6 * 0.4))
    assert greedy(TableModel(GARDEN_PATH), SOURCE, scored=False)[0].ids == [A]


def test_beam_two_leaves_the_garden_path() -> None:
    (best, second) = beam_search(TableModel(GARDEN_PATH), SOURCE, 2, length_penalty=0)[0]
    assert (best.ids, second.ids) == ([B], [A])
    assert best.score == pytest.approx(math.log(0.36))
    assert second.score == pytest.approx(math.log(0.24))


@pytest.mark.parametrize(("alpha", "order"), [(0.0, [[B], [A, A]]), (3.0, [[A, A], [A, B]])])
def test_length_penalty_divides_by_the_length_with_its_end_token(alpha: float, order: list[list[int]]) -> None:
    """B, end: ln(0.4 · 0.9) = -1.02 over 2^α; A, A, end: ln(0.6 · 0.55) = -1.11 and A, B, end: -1.31 over 3^α."""
    table = {(): (0.0, 0.6, 0.4), (A,): (0.0, 0.55, 0.45), (B,): (0.9, 0.05, 0.05)}
    hypotheses = beam_search(TableModel(table), SOURCE, 2, length_penalty=alpha)[0]
    assert words(hypotheses) == order
    scores = {(B,): math.log(0.36) / 2**alpha, (A, A): math.log(0.33) / 3**alpha, (A, B): math.log(0.27) / 3**alpha}
    assert [h.score for h in hypotheses] == pytest.approx([scores[tuple(ids)] for ids in order])


def test_the_end_token_is_not_allowed_first() -> None:
    table = {(): (0.97, 0.02, 0.01), (A,): (1.0, 0.0, 0.0), (B,): (0.5, 0.25, 0.25)}
    assert greedy(TableModel(table), SOURCE)[0].ids == greedy(TableModel(table), SOURCE, scored=False)[0].ids == [A]
    assert all(h.ids for h in beam_search(TableModel(table), SOURCE, 2)[0])


class Endless(TableModel):
    """Always A with 0.75 or B with 0.25."""

    def step(self, ids: Tensor, state: TableState) -> tuple[Tensor, TableState]:
        logits = torch.full((len(ids), V), -50.0)
        logits[:, A], logits[:, B] = math.log(0.75), math.log(0.25)
        return logits, state


def test_a_model_that_never_ends_is_stopped_at_twice_the_source_plus_ten() -> None:
    """Fourteen tokens for a source of two; the unfinished hypothesis is taken as it is."""
    (by_greedy,) = greedy(Endless({}), SOURCE)
    by_beam = beam_search(Endless({}), SOURCE, 2)[0][0]
    assert by_greedy.ids == by_beam.ids == [A] * 14
    assert by_greedy.score == pytest.approx(math.log(0.75), abs=1e-5)
    assert by_beam.score == pytest.approx(math.log(0.75), abs=1e-5)


def test_a_model_with_few_positions_is_stopped_at_the_last() -> None:
    model = Endless({})
    model.position_limit = 5
    assert greedy(model, SOURCE)[0].ids == beam_search(model, SOURCE, 2)[0][0].ids == [A] * 5


def test_patience_waits_for_more_hypotheses() -> None:
    """With beam 1 and patience 1 the first that ends wins; with patience 2 a better one that ends later is found."""
    table = {(): (0.0, 1.0, 0.0), (A,): (0.5, 0.0, 0.5), (A, B): (1.0, 0.0, 0.0)}
    assert beam_search(TableModel(table), SOURCE, 1, length_penalty=1)[0][0].ids == [A]
    assert beam_search(TableModel(table), SOURCE, 1, length_penalty=1, patience=2)[0][0].ids == [A, B]


def test_finished_sentences_leave_the_batch() -> None:
    """The rows that a model is asked for shrink as sentences end."""
    rows = []

    class Counting(TableModel):
        def step(self, ids: Tensor, state: TableState) -> tuple[Tensor, TableState]:
            rows.append(len(ids))
            hidden, state = super().step(ids, state)
            if len(rows) >= 2:
                hidden[0, EOS] = 50.0  # the first sentence of those alive ends now
            return hidden, state

    never_ends = dict.fromkeys([(A,) * n for n in range(30)], (0.0, 1.0, 0.0))
    source = torch.tensor([[7, EOS], [7, EOS], [7, EOS]])
    hypotheses = greedy(Counting(never_ends), source)
    assert rows == [3, 3, 2, 1]
    assert [len(h.ids) for h in hypotheses] == [1, 3, 2]  # the last sentence took the place of the first

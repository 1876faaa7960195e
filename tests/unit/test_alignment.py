"""Alignments: what the words of a translation attend to, the links that follow, and how many of them are wrong."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from torch import Tensor

from tests.conftest import toy_pairs
from transformer_mt import Translator, config
from transformer_mt.alignment import Link, _words, alignments, error_rate, error_rates, links, matrix
from transformer_mt.data.tokenizer import Tokenizer, learn
from transformer_mt.errors import ConfigError
from transformer_mt.experiment.align import View
from transformer_mt.heat_map import heat_map
from transformer_mt.model.decoded import alignment_layer
from transformer_mt.special import BOS, EOS
from transformer_mt.translate import make_model

PAIRS = toy_pairs(12, seed=5)


@pytest.fixture(scope="module")
def translator(tiny_run: Path) -> Translator:
    return Translator.load(tiny_run)


def untrained(tokenizer: Tokenizer, settings: config.Model) -> Translator:
    torch.manual_seed(1)
    model = make_model(settings, tokenizer).eval()
    return Translator(model, tokenizer, config.Decoding(batch_size=2), torch.device("cpu"))


# ---- links and error rate


def test_each_target_word_is_linked_to_its_most_attended_source_word() -> None:
    assert links(torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])) == [(1, 0), (0, 1)]


def test_no_link_of_a_word_that_attends_to_nothing() -> None:
    assert links(torch.tensor([[0.0, 0.0], [0.1, 0.2]])) == [(1, 1)]
    assert links(torch.zeros(3, 0)) == [] == links(torch.zeros(0, 3))


def test_error_rate_by_hand() -> None:
    """Of 3 + 1 links found and 2 + 3 true ones, 2 + 1 are common: 1 - 2 · 3 / (4 + 5)."""
    found = [[(0, 0), (1, 1), (2, 2)], [(0, 0)]]
    gold = [[(0, 0), (1, 1)], [(0, 0), (1, 0), (2, 0)]]
    assert error_rate(found, gold) == pytest.approx(1 / 3)
    assert error_rate([[(0, 0), (0, 0)]], [[(0, 0)]]) == 0.0  # twice is once
    assert error_rate([[]], [[(0, 0)]]) == 1.0
    assert error_rate([[]], [[]]) == 0.0


LINKS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)))


@given(LINKS, LINKS)
def test_the_error_rate_is_that_of_the_f_measure(found: set[Link], gold: set[Link]) -> None:
    """1 - F1 where all links are sure (Fraser and Marcu 2007): between 0, for equal links, and 1, for disjoint ones."""
    rate = error_rate([found], [gold])
    if found & gold:
        precision, recall = len(found & gold) / len(found), len(found & gold) / len(gold)
        assert rate == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    else:
        assert rate == (1.0 if found or gold else 0.0)


def test_error_rates_of_each_head_and_of_the_mean() -> None:
    right, wrong = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([[0.4, 0.6], [0.6, 0.4]])
    weights = torch.stack([torch.stack([right, wrong]), torch.stack([wrong, wrong])])  # [L, H, T, S]
    assert error_rates([weights, weights], [[(0, 0), (1, 1)]] * 2) == [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize(("layers", "layer"), [(1, 0), (2, 1), (3, 2), (4, 2), (6, 4)])
def test_the_layer_that_is_looked_at_by_default(layers: int, layer: int) -> None:
    assert alignment_layer(layers) == layer


# ---- words


@pytest.fixture(scope="module")
def mixed() -> Tokenizer:
    lines = [" ".join(pair) for pair in toy_pairs(200)] + ["今日は雨です", "今天下雨。", "วันนี้ฝนตก"] * 20
    return learn(lambda: iter(lines), lambda: iter(lines), len(lines), config.Tokenizer(), 1)


class Pieces:
    """A tokenizer whose pieces are given, each with its place in the text."""

    def __init__(self, *offsets: tuple[int, int]) -> None:
        self.offsets = offsets

    def encode(self, text: str, return_type: str) -> dict[str, Any]:
        assert return_type == "offset_mapping"
        return {"offsets": list(self.offsets)}


def test_a_word_has_the_pieces_that_begin_in_it() -> None:
    words, parts = _words(Pieces((0, 2), (2, 4), (4, 7), (7, 8)), "abcd ef.", 4)  # ab cd _ef .
    assert words == ["abcd", "ef."]
    assert parts.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_a_piece_of_white_space_belongs_to_the_word_behind_it() -> None:
    words, parts = _words(Pieces((0, 1), (1, 2), (2, 2), (2, 3), (3, 4)), "a é\t", 5)  # a _ <C3> <A9> <09>
    assert words == ["a", "é"]
    assert parts.tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 1, 1]]


def test_pieces_that_were_cut_leave_words_without_any() -> None:
    words, parts = _words(Pieces((0, 1), (1, 3), (3, 5)), "a b c", 2)
    assert words == ["a", "b", "c"]
    assert parts.tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("text", ["今日は雨です", "ฝนตกวันนี้", " 今天下雨。 "])
def test_where_nothing_parts_words_their_pieces_are_the_words(text: str, mixed: Tokenizer) -> None:
    words, parts = _words(mixed.source, text, len(mixed.encode_source([text])[0]))
    assert "".join(words) == text.strip()
    assert len(words) > 1
    assert (parts.sum(0) == 1).all() and (parts.sum(1) >= 1).all()


@pytest.mark.parametrize("text", ["今天 下雨", "Donaudampfschiff", "היום", "a", "日 b"])
def test_otherwise_words_are_what_white_space_parts(text: str, mixed: Tokenizer) -> None:
    assert _words(mixed.source, text, len(mixed.encode_source([text])[0]))[0] == text.split()


@given(st.text(max_size=30))
def test_every_piece_of_any_text_belongs_to_one_word(mixed: Tokenizer, text: str) -> None:
    count = len(mixed.encode_source([text])[0])
    words, parts = _words(mixed.source, text, count)
    assert all(word and word in text for word in words)
    assert parts.shape == (len(words), count)
    if words:
        assert (parts.sum(0) == 1).all()


def test_weights_of_words_from_those_of_pieces_by_hand(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source pieces of a word are summed, target pieces averaged; the end token's row and column are left out."""
    from transformer_mt.translate import Attention

    weights = torch.tensor([[0.1, 0.2, 0.6, 0.1], [0.3, 0.4, 0.2, 0.1], [0.0, 0.1, 0.7, 0.2], [9.0, 9.0, 9.0, 9.0]])
    seen = Attention(["▁ab", "c", "▁d"], ["▁x", "y", "▁z"], weights[None, None])
    monkeypatch.setattr(Translator, "attention", lambda *_: iter([seen]))
    spans = {"abc d": Pieces((0, 2), (2, 3), (3, 5)), "xy z": Pieces((0, 1), (1, 2), (2, 4))}

    def words(processor: Any, text: str, count: int) -> tuple[list[str], Tensor]:
        return _words(spans[text], text, count)

    monkeypatch.setattr("transformer_mt.alignment._words", words)
    [alignment] = alignments(translator, ["abc d"], ["xy z"])
    assert (alignment.source, alignment.target) == (["abc", "d"], ["xy", "z"])
    expected = torch.tensor([[(0.3 + 0.7) / 2, (0.6 + 0.2) / 2], [0.1, 0.7]])
    torch.testing.assert_close(alignment.weights, expected[None, None])


# ---- the weights


def naive(translator: Translator, source: str, target: str) -> Tensor:
    """The attention [L, H, T, S] of pieces, for one pair alone; each row by a pass of its own over what is before."""
    [ids], [gold] = translator.tokenizer.encode_source([source]), translator.tokenizer.encode_target([target])
    rows = []
    for t in range(len(gold)):
        read = torch.tensor([[BOS, *gold[:t]]])
        attention = translator.model(torch.tensor([[*ids, EOS]]), read, attention=True).attention
        assert attention is not None
        rows.append(torch.stack(attention)[:, 0, :, t, :-1])
    return torch.stack(rows, dim=2)


MODELS: dict[str, Callable[[], config.Model]] = {
    "transformer": lambda: config.Transformer(layers=2, width=32, heads=4, feed_forward=32),
    "post-norm, rotary": lambda: config.Transformer(
        layers=2, width=32, heads=2, feed_forward=32, norm_position="post", positions="rotary", score="additive"
    ),
    "window": lambda: config.Transformer(layers=1, width=32, heads=2, feed_forward=32, self_attention="window"),
    "linear": lambda: config.Transformer(layers=1, width=32, heads=2, feed_forward=32, self_attention="linear"),
    "recurrent": lambda: config.Recurrent(width=32),
    "lstm": lambda: config.Recurrent(width=32, layers=2, cell="lstm", score="dot", input_feeding=False),
    "local": lambda: config.Recurrent(width=32, attention="local", window=3),
    "hard": lambda: config.Recurrent(width=32, attention="hard"),
}


@pytest.mark.parametrize("kind", MODELS)
@torch.inference_mode()
def test_the_weights_are_those_of_a_naive_pass_for_every_model(kind: str, translator: Translator) -> None:
    """In batches of several lengths, in the order of the lines."""
    settings = MODELS[kind]()
    ours = untrained(translator.tokenizer, settings)
    pairs = PAIRS[:4]
    sources, targets = map(list, zip(*pairs, strict=True))
    expected = [naive(ours, *pair) for pair in pairs]
    found = list(alignments(ours, sources, targets, pieces=True))
    heads = (settings.layers, settings.heads) if isinstance(settings, config.Transformer) else (1, 1)
    for (source, target), alignment, weights in zip(pairs, found, expected, strict=True):
        assert alignment.weights.shape[:2] == heads
        torch.testing.assert_close(alignment.weights, weights, atol=1e-5, rtol=1e-4)
        assert "".join(alignment.source).replace("▁", " ").split() == source.split()
        assert "".join(alignment.target).replace("▁", " ").split() == target.split()


def test_words_get_what_their_pieces_get(translator: Translator) -> None:
    """Whatever the words: the row of a word sums up to the mean of the sums of its pieces' rows."""
    [words] = alignments(translator, [PAIRS[0][0]], [PAIRS[0][1]])
    [pieces] = alignments(translator, [PAIRS[0][0]], [PAIRS[0][1]], pieces=True)
    assert words.source == PAIRS[0][0].split() and words.target == PAIRS[0][1].split()
    word = [0]
    for piece in pieces.target[1:]:
        word.append(word[-1] + piece.startswith("▁"))
    for number in range(len(words.target)):
        rows = [n for n, of in enumerate(word) if of == number]
        expected = pieces.weights[:, :, rows].sum(-1).mean(-1)
        torch.testing.assert_close(words.weights[:, :, number].sum(-1), expected)


def test_lines_without_text_have_no_words(translator: Translator) -> None:
    sources, targets = ["", "mako kist", " \t", "mako"], ["okam", "", "", "okamn"]
    found = list(alignments(translator, sources, targets))
    assert [(len(a.source), len(a.target)) for a in found] == [(0, 1), (2, 0), (0, 0), (1, 1)]
    assert [tuple(a.weights.shape[2:]) for a in found] == [(1, 0), (0, 2), (0, 0), (1, 1)]
    assert not list(alignments(translator, [], []))


def test_a_model_without_attention_is_an_error(translator: Translator) -> None:
    ours = untrained(translator.tokenizer, config.Recurrent(width=32, attention="none"))
    with pytest.raises(ConfigError, match=r"^model\.attention: none, .*; "):
        next(alignments(ours, ["mako"], ["okam"]))


def test_what_is_too_long_is_cut_with_a_warning(translator: Translator, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config.Transformer(layers=1, width=32, heads=2, feed_forward=32, positions="learned", max_positions=8)
    ours = untrained(translator.tokenizer, settings)
    [fits, cut] = alignments(ours, ["mako", "mako " * 20], ["okam", "okamn " * 20])
    assert capsys.readouterr().err.count("warning: line 2: ") == 2
    assert fits.weights.shape == (1, 2, 1, 1)
    assert cut.weights.shape == (1, 2, 20, 20) and cut.weights.isfinite().all()
    assert links(matrix(cut.weights, 0, None))[-1][1] < 8  # later words have no pieces


def test_progress_counts_all_pairs(translator: Translator) -> None:
    counts: list[int] = []
    sources, targets = map(list, zip(*PAIRS, strict=True))
    assert len(list(alignments(translator, sources, targets, progress=counts.append))) == sum(counts) == len(PAIRS)


# ---- the heat map


def drawn(source: list[str], target: list[str], weights: Tensor, width: int | None = None) -> list[str]:
    return [line.plain for line in heat_map(source, target, weights, width)]


def test_a_heat_map_by_hand() -> None:
    weights = torch.tensor([[0.9, 0.04, 0.06], [0.1, 0.3, 0.6]])
    assert drawn(["The", "cat", "sits"], ["Die", "Katze"], weights) == [
        "      The cat sits",
        "Die   ███     ░░░░",
        "Katze ░░░ ▒▒▒ ▓▓▓▓",
    ]


@pytest.mark.parametrize(
    "words",
    [["图书馆", "的", "学生"], ["図書館で", "本を", "読む"], ["도서관", "a"], ["e\u0301te\u0301", "ไทย"], ["", "a"]],
)
def test_columns_of_wide_characters_are_aligned(words: list[str]) -> None:
    """Every full cell begins where its word does, counted in cells of the terminal."""
    rows = drawn(words, words, torch.eye(len(words)))
    starts = [cell_len(row[: re.search("█", row).start()]) for row in rows[1:]]  # type: ignore[union-attr]
    position = max(map(cell_len, words)) + 1
    for word, start in zip(words, starts, strict=True):
        assert start == position
        position += max(1, cell_len(word)) + 1
    assert all(cell_len(row) <= position for row in rows)


def test_what_is_wider_than_the_terminal_goes_on_below() -> None:
    source = [f"word{n}" for n in range(10)]
    rows = drawn(source, ["x"], torch.full((1, 10), 0.3), width=40)
    assert all(len(row) <= 40 for row in rows)
    assert " ".join(rows).split().count("x") == len(rows) // 3 + 1
    assert [word for row in rows for word in row.split() if word.startswith("word")] == source


def test_a_word_wider_than_the_terminal_is_cut_and_shown_all_the_same() -> None:
    rows = drawn(["a" * 200, "b"], ["c" * 200], torch.tensor([[0.9, 0.1]]), width=10)
    assert "a" * 19 + "…" in rows[0] and "b" in rows[3]


def test_text_cannot_command_the_terminal() -> None:
    rows = "".join(drawn(["\x1b[2J", "\u202eabc"], ["a\nb"], torch.eye(1, 2)))
    assert not set("\x1b\n\u202e") & set(rows)


def test_words_from_right_to_left_do_not_turn_their_row() -> None:
    """Each is followed by a left-to-right mark, so that a terminal which turns text keeps them in their columns."""
    assert drawn(["מכתב", "ארוך"], ["x"], torch.eye(1, 2))[0].split() == ["מכתב\u200e", "ארוך\u200e"]


@pytest.mark.parametrize("terminal", [False, True])
def test_colours_on_a_terminal_only(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system="standard" if terminal else None)
    for line in heat_map(["a"], ["b"], torch.ones(1, 1)):
        console.print(line)
    assert isinstance(console.file, io.StringIO)
    assert ("\x1b" in console.file.getvalue()) == terminal


@pytest.mark.parametrize(
    ("weight", "asked", "seen"),
    [
        (0.1, (None, None), (None, 1)),
        (0.1, (2, None), (2, None)),
        (0.1, (None, 2), (None, 2)),
        (0, (None, None), (None, None)),
    ],
)
def test_the_taught_head_is_seen_unless_another_is_asked_for(
    weight: float, asked: tuple[int | None, int | None], seen: tuple[int | None, int | None]
) -> None:
    run = cast(config.Config, SimpleNamespace(training=config.Training(guided_alignment=weight)))
    assert View(*asked).of(run) == View(*seen)

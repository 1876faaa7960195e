"""Coverage counts pieces and bytes as one would by hand."""

from __future__ import annotations

import pytest

from tests.conftest import toy_pairs
from transformer_mt import config
from transformer_mt.data import coverage as module
from transformer_mt.data.coverage import Coverage, coverage
from transformer_mt.data.tokenizer import Tokenizer, learn

KNOWN = ["ar mako kist", "el bilu balm in tofi"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    sources, targets = zip(*toy_pairs(300), strict=True)
    return learn(lambda: iter(sources), lambda: iter(targets), 300, config.Tokenizer(vocab_size=310), 1)


def cover(tokenizer: Tokenizer, lines: list[str]) -> Coverage:
    return coverage(tokenizer.encode_source, tokenizer.source, lines)


def test_text_of_the_training_texts_kind_has_no_bytes(tokenizer: Tokenizer) -> None:
    found = cover(tokenizer, KNOWN)
    assert (found.lines, found.words, found.byte_pieces, found.byte_rate, found.unknown) == (2, 8, 0, 0.0, {})
    assert found.pieces == sum(map(len, tokenizer.encode_source(KNOWN)))


def test_a_character_without_a_piece_counts_its_bytes(tokenizer: Tokenizer) -> None:
    """Ж and ñ take two bytes in UTF-8, 語 three; of the two kinds the more frequent is named first."""
    found = cover(tokenizer, [*KNOWN, "ñ ЖЖ", "mako 語Ж"])
    assert found.byte_pieces == 3 * 2 + 2 + 3
    assert found.unknown == {"Ж": 3, "ñ": 1, "語": 1}
    assert next(iter(found.unknown)) == "Ж"
    assert found.byte_rate == 11 / found.pieces


def test_only_the_first_lines_are_looked_at(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 2)
    assert cover(tokenizer, [*KNOWN, "Ж"]) == cover(tokenizer, KNOWN)


def test_no_text_is_no_error(tokenizer: Tokenizer) -> None:
    assert cover(tokenizer, []) == Coverage(0, 0, 0, 0, {})
    assert cover(tokenizer, ["", " "]).byte_rate == 0.0


def test_what_cannot_be_seen_is_shown_by_its_number() -> None:
    unknown = dict.fromkeys("Ж\x1b\u3000\u200b語", 1)
    assert Coverage(1, 1, 9, 9, unknown).shown == "Ж U+001B U+3000 U+200B 語"
    assert len(Coverage(1, 1, 9, 9, dict.fromkeys("abcdefghijklmnop", 1)).shown.split()) == 10

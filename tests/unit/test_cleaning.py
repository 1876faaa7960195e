"""The rules that drop training pairs: what each drops, what it must leave, and which comes first."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.config import Data, Languages, Source
from transformer_mt.data.cleaning import Cleaner, Dropped, Repeats, pair_hash
from transformer_mt.data.store import Array

SENTENCE = "The quick brown fox jumps over it."


def cleaner(source: str = "de", target: str = "en", first: Any = (), **data: Any) -> Cleaner:
    settings = Data(train=[Source(source="train.a", target="train.b")], **data)
    return Cleaner(settings, Languages(source=source, target=target), first)


def repeats(*evaluation: tuple[str, str], **data: Any) -> Repeats:
    return Repeats(Data(train=[Source(source="train.a", target="train.b")], **data), np.unique(hashes(*evaluation)))


def dropped(judge: Repeats, values: Array) -> dict[int, str]:
    return judge.rules(values, np.arange(len(values)))


def hashes(*pairs: tuple[str, str]) -> Array:
    return np.array([pair_hash(*pair) for pair in pairs], np.uint64)


@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        ("Guten Tag.", "Good day.", None),
        ("", "Good day.", "empty"),
        ("Guten Tag.", " \t\u3000\u2028", "empty"),
        ("a" * 4097, "b", "too long"),  # 256 pieces of 16 characters
        ("a" * 4096, "b", None),
        # control characters
        ("Guten\x07 Tag.", "Good day.", "control"),
        ("Guten Tag.", "Good \ufffd day.", "control"),
        ("Guten Tag.", "Good\x9dday.", "control"),
        ("Guten\x85Tag.", "Good\tday\x0c\x1c.", None),  # white space
        ("Gu\u00adten\u200bTag.", "Good day.", None),  # format characters are none
        # copies
        ("Guten Tag.", "Guten Tag.", "copies"),
        ("Guten  Tag.", " guten tag. ", "copies"),
        ("STRASSE", "straße", "copies"),
        ("12,5 %", "12,5 %", None),
        ("https://example.org/a", "https://example.org/a", None),
        ("www.example.org me@example.org 5", "www.example.org me@example.org 5", None),
        ("see https://example.org/a", "see https://example.org/a", "copies"),
        ("Guten Tag.", "Guten Tag!", None),
        # scripts
        ("Добрый день.", "Good day.", "script"),
        ("Guten Tag.", "さようなら", "script"),
        ("Guten Tag.", "さよう", None),  # three letters
        ("Guten Tag: さようなら", "Good day: さようなら", None),  # five of 13 and of 12
        ("Tag: さよう", "Day: さようなら", "script"),  # five of eight
        ("αβγδ abcd", "Good day.", "script"),  # half
        ("αβγδ abcde", "Good day.", None),
        ("12:30", "12:30 !", None),
    ],
)
def test_a_rule_drops_a_pair(source: str, target: str, rule: str | None) -> None:
    assert cleaner().text_rule(source, target) == rule


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("東京に行きます。", None),
        ("NHK", None),
        ("CD-ROM Version", None),
        (SENTENCE, "script"),  # wholly Latin, 26 letters
        ("The quick brown fox ju.", None),  # 18 letters: may be a title
        ("『The Quick Brown Fox Jumps Over』の歌", None),  # the name of a song
        ("https://example.org/quick/brown/fox/jumps", None),
        ("Быстрая лиса", "script"),
        ("лиса東京都", "script"),  # four of seven letters
    ],
)
def test_latin_letters_are_at_home_in_other_scripts(source: str, rule: str | None) -> None:
    assert cleaner("ja").text_rule(source, "Something.") == rule


def test_korean_may_have_chinese_characters_and_serbian_two_alphabets() -> None:
    assert cleaner("ko").text_rule("大韓民國", "Korea") is None
    assert cleaner("zh").text_rule("대한민국", "Korea") == "script"
    for line in ("Добар дан свима.", "Dobar dan svima."):
        assert cleaner("sr").text_rule(line, "Good day all.") is None


def test_how_an_unknown_language_is_written_shows_in_its_first_lines() -> None:
    first = [("добрый день", "guten tag")] * 200
    clean = cleaner("xx", "yy", first)
    assert clean.text_rule("еще раз", "noch einmal") is None
    assert clean.text_rule("さようなら", "noch mal") == "script"
    assert clean.text_rule("раз", "опять") == "script"
    assert cleaner("xx", "yy").text_rule("さようなら", "опять") is None  # nothing is known
    digits = cleaner("xx", "yy", [("1", "2")])
    assert digits.text_rule("さようなら", "опять") is None


def test_the_corpus_is_not_read_for_known_languages() -> None:
    def unread() -> Any:
        raise AssertionError
        yield

    assert cleaner("de", "en", unread()).text_rule("a", "b") is None


def test_the_first_of_equal_pairs_is_kept() -> None:
    pairs = [("a", "b"), ("a", "c"), ("a", "b"), ("a b", "c"), ("a", "b c"), ("a", "b "), ("a", "b")]
    assert dropped(repeats(), hashes(*pairs)) == {2: "duplicates", 6: "duplicates"}
    assert dropped(repeats(drop=[]), hashes(*pairs)) == {}


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=30))
def test_duplicates_are_found_however_the_corpus_is_cut(chunks: list[list[int]]) -> None:
    judge, seen = repeats(), set[int]()
    for chunk in chunks:
        expected = set()
        for place, value in enumerate(chunk):
            if value in seen:
                expected.add(place)
            seen.add(value)
        assert set(dropped(judge, np.array(chunk, np.uint64))) == expected


def test_pairs_of_the_evaluation_sets_are_dropped_where_asked() -> None:
    pairs = hashes(("a", "c"), ("a", "b"), ("a", "c"), ("a", "b"))
    assert dropped(repeats(("a", "b")), pairs) == {2: "duplicates", 3: "duplicates"}
    assert dropped(repeats(("a", "b"), drop=["leaks"]), pairs) == {1: "leaks", 3: "leaks"}
    both = repeats(("a", "b"), drop=["leaks", "duplicates"])
    assert both.rules(pairs, np.array([1, 2])) == {1: "leaks"}  # what another rule has dropped is not asked for
    assert dropped(both, pairs) == {0: "duplicates", 1: "leaks", 2: "duplicates", 3: "leaks"}


@pytest.mark.parametrize(
    ("rule", "pair"),
    [
        ("control", ("a\x07", "b")),
        ("copies", ("a", "a")),
        ("script", ("Добрый день", "b")),
    ],
)
def test_a_rule_that_is_not_chosen_drops_nothing(rule: str, pair: tuple[str, str]) -> None:
    chosen = ["control", "copies", "script"]
    with_it, without = cleaner(drop=chosen), cleaner(drop=[other for other in chosen if other != rule])
    assert [clean.text_rule(*pair) for clean in (with_it, without)] == [rule, None]
    assert without.text_rule("", "b") == "empty"


def test_the_first_rule_that_applies_counts() -> None:
    clean = cleaner("ja")
    assert clean.text_rule("\x07" * 5000, "") == "empty"
    assert clean.text_rule("\x07" * 5000, "b") == "too long"
    assert clean.text_rule(f"{SENTENCE}\x07", f"{SENTENCE}\x07") == "control"
    assert clean.text_rule(SENTENCE, SENTENCE) == "copies"
    assert clean.text_rule(SENTENCE, "Something.") == "script"


def naive_rule(source: str, target: str) -> str | None:
    """The rules for German to English, of one pair, written without haste."""
    for line in (source, target):
        if not line.strip():
            return "empty"
    for character in source + target:
        if character == "\ufffd" or (unicodedata.category(character) == "Cc" and not character.isspace()):
            return "control"
    if source.casefold().split() == target.casefold().split() and any(c.isalpha() for c in source):
        return "copies"
    for line in (source, target):
        letters = [unicodedata.name(c).split()[0] for c in line if unicodedata.category(c).startswith("L")]
        foreign = [name for name in letters if name != "LATIN"]
        if len(foreign) >= 4 and len(foreign) * 2 >= len(letters):
            return "script"
    return None


LINE = st.text(st.sampled_from("abcäß  1.,\t\x07\x85\ufffdдажеかなλ"), max_size=14)


@given(st.lists(st.tuples(LINE, LINE), max_size=20))
def test_the_rules_are_what_they_say(pairs: list[tuple[str, str]]) -> None:
    clean = cleaner(drop=["control", "copies", "script"])
    for source, target in [*pairs, *((source, source.upper()) for source, _ in pairs)]:
        assert clean.text_rule(source, target) == naive_rule(source, target)


@pytest.mark.parametrize(
    ("lengths", "rule"),
    [
        ((0, 3), "empty"),
        ((3, 0), "empty"),
        ((7, 7), None),
        ((8, 7), "too long"),
        ((7, 8), "too long"),
        ((2, 5), None),  # 2.5 times
        ((2, 6), "length ratio"),
        ((6, 2), "length ratio"),
    ],
)
def test_pieces_are_counted(lengths: tuple[int, int], rule: str | None) -> None:
    clean = cleaner(max_length=7, max_ratio=2.5)
    source, target = ([5, length, 5] for length in lengths)
    assert clean.length_rules(np.array(source), np.array(target)) == ({} if rule is None else {1: rule})


def test_a_pairs_hash_is_the_same_everywhere() -> None:
    assert pair_hash("a", "b") == 0xA76DE9F2D561975F  # printf 'a\nb' | b2sum -l 64
    assert pair_hash("a b", "c") != pair_hash("a", "b c")


def test_what_is_dropped_is_counted_and_its_first_examples_are_kept() -> None:
    dropped = Dropped()
    assert str(dropped) == ""
    assert dropped.to_json() == {}
    dropped.add("script", "train.de:7", "s" * 1000, "t")
    for number in range(1, 2001):
        dropped.add("copies", f"train.de:{number}", f"line {number}", "x")
    assert str(dropped) == "2,000 copies, 1 script"
    plain = dropped.to_json()
    assert list(plain) == ["copies", "script"]
    assert plain["copies"]["pairs"] == 2000
    assert plain["copies"]["examples"] == [
        {"place": f"train.de:{n}", "source": f"line {n}", "target": "x"} for n in (1, 2, 3)
    ]
    assert plain["script"]["examples"][0]["source"] == "s" * 200
    assert json.loads(json.dumps(plain)) == plain

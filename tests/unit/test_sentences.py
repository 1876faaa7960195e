"""Sentences: where lines are split, and that nothing is lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.data.sentences import join_sentences, split_sentences


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It rains.|We stay.|Why not?|Because!|Really?!|Well…|So be it."),
        ("en", "He said so.|3 men heard it.|2010 was worse."),
        ("en", "“We go.”|She went.|(They stayed.)|[Nobody came.]|'Why?'|'No.'"),
        ("en", "Come in.|– No.|- Yes."),
        ("en", "It was over...|Then it began."),
        ("de", "»Ja.«|»Nein.«|„Wer da?“|„Ich.“"),
        ("fr", "« Bonjour. »|Il partit.|Quoi !|Vous ?"),
        ("es", "Hola.|¿Qué tal?|¡Bien!"),
        ("ru", "Он ушёл.|Она осталась."),
        ("ar", "مرحبا.|كيف حالك؟|بخير."),
        ("hi", "वह गया।|वह आई।"),
        ("ka", "გამარჯობა.|როგორ ხარ?"),
        ("ja", "雨だ。|本当？|はい！|「行く。」|彼は言った。"),
        ("zh", "你好。|“走吧！”|他走了。"),
    ],
)
def test_sentences_are_split(language: str, text: str) -> None:
    sentences = text.split("|")
    assert split_sentences(join_sentences(sentences, language), language) == sentences


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("en", "Mr. Smith met Dr. Jones and Prof. Miller of St. Mary vs. Oxford, etc. There, e.g. Latin, i.e. Greek."),
        ("en", "J. R. Smith of the U.S. Army and Mary B. Jones"),
        ("en", "It costs 3.50 dollars, or 1.000.000 of them, on www.example.org or in a.b.C"),
        ("en", "See No. 3 and Fig. 4 of Jan. 5"),
        ("en", "1. Open the box"),
        ("en", "“Why?” she said. and “No!” he said… and so on"),
        ("en", "a long ... Silence"),
        ("de", "Am 3. Oktober um 8. Uhr z. B. in St. Gallen, d. h. Hr. Müller bzw. Fr. Maier usw. Nr. 5"),
        ("de", "Ludwig der 14. Kaiser"),
        ("fr", "M. Dupont et Mme. Durand"),
        ("nl", "Dhr. Jansen en mevr. Smit"),
        ("cs", "Dne 3. Října"),
        ("ja", "「行く。」と彼は言った"),
        ("ja", "円周率は3.14です"),
        ("en", "No end"),
    ],
)
def test_what_goes_on_is_not_split(language: str, line: str) -> None:
    assert split_sentences(line, language) == [line]


def test_ordinals_are_of_some_languages_only() -> None:
    """After 3. German goes on, English does not; a year ends a sentence in both."""
    assert len(split_sentences("Es waren 3. Danach kam keiner.", "de")) == 1
    assert len(split_sentences("There were 3. Then nobody came.", "en-GB")) == 2
    assert len(split_sentences("Es war 1990. Danach kam keiner.", "deu")) == 2


def test_numbers_begin_the_entries_of_a_list() -> None:
    assert split_sentences("1. Open it. 2. Close it.", "en") == ["1. Open it.", "2. Close it."]


@pytest.mark.parametrize("line", ["", " ", "\t\u3000"])
def test_a_line_without_text_has_no_sentences(line: str) -> None:
    assert split_sentences(line) == []


def test_joined_with_the_space_of_the_language() -> None:
    assert join_sentences(["Eins.", "", "Zwei."], "de") == "Eins. Zwei."
    for language in ("zh", "zh-TW", "ja", "th"):
        assert join_sentences(["一。", "", "二。"], language) == "一。二。"
    assert join_sentences([], "de") == ""


BUSY = st.text(st.sampled_from("aAbB13 .!?…。？」「”“»«\"'(][)-\u3000\u00a0とあ漢ßकა़e\u0301\u2028")) | st.text()


@given(BUSY, st.sampled_from(["en", "de", "ja", "fr", "und"]))
def test_sentences_are_the_line_but_for_white_space(line: str, language: str) -> None:
    sentences = split_sentences(line, language)
    assert "".join("".join(sentences).split()) == "".join(line.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@given(BUSY, st.sampled_from(["en", "de", "ja", "fr", "und"]))
def test_a_sentence_is_not_split_again(line: str, language: str) -> None:
    for sentence in split_sentences(line, language):
        assert split_sentences(sentence, language) == [sentence]


@pytest.mark.parametrize("text", ["mako ", "1. A ", ". ", ".", "!»", '"', ". " + " " * 500])
def test_time_grows_with_length_only(text: str) -> None:
    """A line of 200,000 characters takes a fraction of a second; the bound is for a busy machine."""
    began = time.monotonic()
    split_sentences(text * (200_000 // len(text)), "de")
    assert time.monotonic() - began < 5

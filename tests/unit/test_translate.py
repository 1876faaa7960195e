"""The Translator: lines in, lines out, whatever the lines and the batches."""

import itertools
import math
import random
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from tests.conftest import toy_pairs
from transformer_mt import Translator, config
from transformer_mt.config import Decoding, Languages
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.decoding.hypothesis import Hypothesis
from transformer_mt.errors import ArtefactError, ConfigError
from transformer_mt.special import BOS, EOS
from transformer_mt.translate import Translation, Wanted, by_length, make_model


@pytest.fixture(scope="module")
def translator(tiny_run: Path) -> Translator:
    return Translator.load(tiny_run)


LINES = [pair[0] for pair in toy_pairs(24, seed=9)]


@pytest.mark.parametrize(("size", "beam"), list(itertools.product([1, 7, 64], [1, 5])))
def test_the_same_translations_and_scores_in_any_batch(tiny_run: Path, size: int, beam: int) -> None:
    """To the bit; also shuffled, among empty lines and beside a line of 400 words."""
    alone = Translator.load(tiny_run, overrides=[f"decoding.beam_size={beam}", "decoding.batch_size=1"])
    batched = Translator.load(tiny_run, overrides=[f"decoding.beam_size={beam}", f"decoding.batch_size={size}"])
    expected = dict(zip(LINES, alone.stream(LINES, Wanted(beam)), strict=True))
    mixed = [*LINES, "", "mako " * 100]
    random.Random(size).shuffle(mixed)
    for line, got, bare in zip(mixed, batched.stream(mixed, Wanted(beam)), batched.translate(mixed), strict=True):
        if line in expected:
            assert got == expected[line]
            assert bare == got[0].text, "without scores"


def test_threads_do_not_matter(tiny_run: Path) -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(list(Translator.load(tiny_run).stream(LINES)))
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]


def test_lines_without_text_give_empty_lines(translator: Translator) -> None:
    assert translator.translate(["", "   ", "\t", "\u3000"]) == [""] * 4
    assert translator.translate([]) == []


@pytest.mark.parametrize(
    "line", ["\U0001f468‍\U0001f469‍\U0001f467", "é", "‮abc", " ", "</s> <s> <pad> <unk>", "a\rb", "\ufeff"]
)
def test_any_text_gives_one_line(translator: Translator, line: str) -> None:
    (output,) = translator.translate([line])
    assert "\n" not in output and "\r" not in output


def test_typed_special_tokens_are_text(translator: Translator) -> None:
    (ids,) = translator.encode(["mako </s> bilu"])
    assert ids[-1] == EOS and EOS not in ids[:-1]


def test_ten_thousand_words_give_one_line_and_a_warning(
    translator: Translator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer_mt.decoding.beam.length_limits", lambda source, limit: [5] * len(source))
    assert len(translator.translate(["mako", "mako " * 10_000])) == 2
    assert capsys.readouterr().err.startswith("warning: line 2: ")


def test_learned_positions_end_a_translation_and_cut_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A model with 20 positions, untrained: nothing it reads or writes is longer."""
    settings = config.Transformer.model_validate(
        {"size": "tiny", "layers": 1, "width": 22, "heads": 1, "positions": "learned", "max_positions": 20}
    )
    tokenizer = Mock(spec=Tokenizer, source_size=31, target_size=31, joint=True)
    tokenizer.encode_source.return_value = [[7] * 50, [8] * 19]
    tokenizer.decode_target.side_effect = lambda ids: " ".join(map(str, ids))
    translator = Translator(make_model(settings, tokenizer).eval(), tokenizer, Decoding(), torch.device("cpu"))
    assert all(1 <= len(text.split()) <= 20 for text in translator.translate(["a", "b"]))
    assert "line 1: 50 pieces" in capsys.readouterr().err


def test_nbest_is_ordered_and_different(translator: Translator) -> None:
    for hypotheses in translator.stream(LINES, Wanted(3)):
        scores = [translation.score for translation in hypotheses]
        assert len(hypotheses) == 3
        assert scores == sorted(scores, reverse=True)


def test_scores_of_given_translations_are_those_of_search(tiny_run: Path) -> None:
    """With α = 0 a score is Σ log p; where encoding the text gives the pieces that search chose, both agree.

    Search forbids an end token at the start, which changes next to nothing.
    """
    translator = Translator.load(tiny_run, overrides=["decoding.length_penalty=0"])
    ids = translator.encode(LINES)
    agreed = 0
    for line, source in zip(LINES, ids, strict=True):
        hypothesis = translator.search([source])[0][0]
        text = translator.tokenizer.decode_target(hypothesis.ids)
        ended = len(hypothesis.ids) + 1 < 2 * len(source) + 10
        if ended and translator.tokenizer.encode_target([text]) == [hypothesis.ids]:
            assert translator.score([line], [text])[0] == pytest.approx(hypothesis.score, abs=0.05)
            agreed += 1
    assert agreed >= 3
    assert translator.score([""], ["x"]) == [-math.inf]


def test_a_translation_too_long_to_score_is_not_a_number(
    translator: Translator, capsys: pytest.CaptureFixture[str]
) -> None:
    good, long = translator.score([LINES[0], LINES[0]], ["zar", "zar " * 2000])
    assert math.isfinite(good) and math.isnan(long)
    assert "warning: line 2" in capsys.readouterr().err


@pytest.mark.parametrize(("beam", "penalty", "limit"), [(1, 1.0, None), (3, 1.0, None), (3, 0.6, None), (3, 1.0, 4)])
def test_the_tokens_make_the_score(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, beam: int, penalty: float, limit: int | None
) -> None:
    """Σ log p / length^α of the tokens is what search found, cut off at the longest length or not."""
    if limit is not None:
        for module in ("decoding.beam", "translate"):
            monkeypatch.setattr(f"transformer_mt.{module}.length_limits", lambda source, _: [limit] * len(source))
    settings = [f"decoding.beam_size={beam}", f"decoding.length_penalty={penalty}"]
    translator = Translator.load(tiny_run, overrides=settings)
    lines = [*LINES, ""]
    found = list(translator.stream(lines, Wanted(beam, tokens=True)))
    plain = list(translator.stream(lines, Wanted(beam)))
    assert found.pop() == [Translation("", 0.0)] == plain.pop()
    for translations, others in zip(found, plain, strict=True):
        assert len(translations) == beam
        for translation, other in zip(translations, others, strict=True):
            assert (translation.text, translation.score, other.tokens) == (other.text, other.score, ())
            values = [token.log_probability for token in translation.tokens]
            assert math.fsum(values) / len(values) ** penalty == pytest.approx(translation.score, abs=1e-5)
            pieces = [token.piece for token in translation.tokens]
            assert limit is None or len(pieces) <= limit
            assert "</s>" not in pieces[:-1]
            text = translator.tokenizer.target.decode_pieces([piece for piece in pieces if piece != "</s>"])
            assert text == translation.text
    assert limit is None or any(t.tokens[-1].piece != "</s>" for translations in found for t in translations)


def test_tokens_are_scored_as_given_translations_are(translator: Translator) -> None:
    """But for the first, before which search rules out the end token: p = p(token) / (1 - p(end))."""
    ids = translator.tokenizer.encode_target(["zar okam"])[0]
    [source] = translator.encode([LINES[0]])
    with torch.inference_mode():
        state = translator.model.start(translator.model.encode(torch.tensor([source])))
        hidden, _ = translator.model.step(torch.tensor([BOS]), state)
        first = translator.model.logits(hidden)[0].log_softmax(-1)
    [[searched]] = translator._tokens([source], [[Hypothesis(ids, 0.0, 0.0)]])
    assert searched[0].log_probability == pytest.approx(float(first[ids[0]] - (-first[EOS].exp()).log1p()), abs=1e-5)
    rest = math.fsum(token.log_probability for token in searched[1:])
    assert translator.score([LINES[0]], ["zar okam"]) == [pytest.approx(float(first[ids[0]]) + rest, abs=1e-5)]


PARAGRAPHS = ["Ar mako kist. El bilu balm! In tofi torf?", "", "el rane sulm", "Os suda. Ut gipe. ", " "]


def test_split_translates_sentence_by_sentence(translator: Translator) -> None:
    parts = [["Ar mako kist.", "El bilu balm!", "In tofi torf?"], [], ["el rane sulm"], ["Os suda.", "Ut gipe."], []]
    assert translator.translate(PARAGRAPHS, split=True) == [" ".join(translator.translate(part)) for part in parts]
    counted: list[int] = []
    found = list(translator.stream_sentences(PARAGRAPHS, Wanted(tokens=True), counted.append))
    assert [[source for source, _ in line] for line in found] == parts
    assert sum(counted) == 6
    assert all(translation.tokens for line in found for _, translation in line)


def test_sentences_are_joined_as_the_target_language_does(translator: Translator) -> None:
    parts = (translator.model, translator.tokenizer, translator.decoding, translator.device)
    japanese = Translator(*parts, Languages(source="en", target="ja"))
    [spaced], [joined] = (t.translate(PARAGRAPHS[:1], split=True) for t in (translator, japanese))
    sentences = translator.translate(["Ar mako kist.", "El bilu balm!", "In tofi torf?"])
    assert (spaced, joined) == (" ".join(sentences), "".join(sentences))


def test_warnings_name_the_line_of_a_sentence(
    translator: Translator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer_mt.translate.LONGEST_SOURCE", 20)
    list(translator.stream_sentences(["Ar. El.", "Ar. " + "mako " * 20], first=10))
    assert capsys.readouterr().err.startswith("warning: line 12: ")


def test_batches_by_length_keep_their_bounds_and_lose_nothing() -> None:
    lengths = [3, 0, 50, 7, 7, 1, 0, 200, 9]
    batches = list(by_length(lengths, size=3, positions=60))
    assert sorted(n for batch in batches for n in batch) == [0, 2, 3, 4, 5, 7, 8]
    assert all(len(b) <= 3 and (len(b) == 1 or len(b) * max(lengths[n] for n in b) <= 60) for b in batches)
    assert batches[0] == [7]


def test_progress_counts_every_line_with_text(translator: Translator) -> None:
    counted: list[int] = []
    list(translator.stream([*LINES, ""], progress=counted.append))
    assert sum(counted) == len(LINES)
    translator.score(LINES, LINES, counted.append)
    assert sum(counted) == 2 * len(LINES)


def test_what_cannot_be_loaded(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        Translator.load(tmp_path)
    with pytest.raises(ConfigError, match="no checkpoint 'step-9'"):
        Translator.load(tiny_run, "step-9")
    with pytest.raises(ArtefactError, match="does not fit the configured model"):
        Translator.load(tiny_run, overrides=["model.feed_forward=65"])
    with pytest.raises(ArtefactError, match=r"model\.heads is 4 but was 2"):
        Translator.load(tiny_run, overrides=["model.heads=4"])

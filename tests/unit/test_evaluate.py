"""Scores: by sacreBLEU, on raw text, with the right tokenizer and a signature."""

import math
from pathlib import Path

import pytest
import torch

from tests.conftest import toy_pairs
from transformer_mt import Translator, evaluate
from transformer_mt.errors import DataError


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("de", "13a"),
        ("en", "13a"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh_TW", "zh"),
        ("ja", "ja-mecab-0.996-IPA"),
        ("fi", "13a"),
        ("zho", "zh"),
        ("tlh", "13a"),
    ],
)
def test_the_tokenizer_of_the_target_language(language: str, tokenizer: str) -> None:
    metric = evaluate.bleu_metric(language)
    metric.corpus_score(["猫 が 好き です"], [["猫 が 好き です"]])
    assert f"|tok:{tokenizer}|" in str(metric.get_signature())


def test_without_its_module_japanese_is_counted_in_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    metric = evaluate.bleu_metric("ja")
    metric.corpus_score(["猫が好き"], [["猫が好き"]])
    assert "|tok:char|" in str(metric.get_signature())
    assert "transformer_mt[ja]" in capsys.readouterr().err


def test_bleu_by_hand_with_two_references() -> None:
    """One sentence of 6 words, the closer reference of 6: precisions 6/6, 5/5, 4/4, 2/3 over both references."""
    hypothesis = "the cat sat on the mat"
    references = [["the cat sat on the rug"], ["a cat sat on the mat"]]
    # 4-grams: 'the cat sat on' (1st), 'cat sat on the' (both), 'sat on the mat' (2nd): all three are found.
    scores = evaluate.corpus_scores([hypothesis], references, "en")
    assert scores["bleu"]["score"] == 100.0
    one = evaluate.corpus_scores([hypothesis], references[:1], "en")["bleu"]["score"]
    # Against the first alone: 5/6, 4/5, 3/4, 2/3 and no brevity penalty.
    assert one == pytest.approx(100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25, abs=0.01)


def test_the_contract_of_the_scores() -> None:
    scores = evaluate.corpus_scores(["a b c d"], [["a b c d"]], "en")
    assert set(scores) == {"bleu", "chrf", "ter", "sentences"}
    assert scores["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (scores["chrf"]["score"], scores["ter"]["score"], scores["sentences"]) == (100.0, 0.0, 1)


def test_unequal_and_empty_sets_are_refused() -> None:
    with pytest.raises(DataError, match="2 translations, but reference 1 has 1"):
        evaluate.corpus_scores(["a", "b"], [["a"]], "en")
    with pytest.raises(DataError, match="empty"):
        evaluate.corpus_scores([], [[]], "en")


def test_mean_nll_is_that_of_teacher_forcing(tiny_run: Path) -> None:
    """The mean over all target tokens of what `score` sums a sentence; batches and empty pairs change nothing."""
    translator = Translator.load(tiny_run)
    pairs = toy_pairs(20, seed=4)
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    tokens = sum(len(ids) + 1 for ids in translator.tokenizer.encode_target(targets))
    expected = -math.fsum(translator.score(sources, targets)) / tokens
    for device_tokens in (30, 4096):
        with torch.inference_mode():
            ours = evaluate.mean_nll(translator, [*sources, ""], [*targets, "x"], device_tokens)
        assert ours == pytest.approx(expected, abs=1e-5)
    with pytest.raises(DataError):
        evaluate.mean_nll(translator, [""], ["x"], 100)

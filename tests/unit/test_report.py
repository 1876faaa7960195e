"""What a report counts is what a naive count gives, and its page can hold any text and stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reports import weights_of
from transformer_mt.alignment import Alignment
from transformer_mt.data.store import BLOCK, Pieces, Store, StoreWriter
from transformer_mt.errors import ConfigError
from transformer_mt.report import analysis, gather, maps, page
from transformer_mt.report.analysis import bands, frequencies, loops, unit, words
from transformer_mt.translate import Translator

# ------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(("language", "expected"), [
    ("de", "words"), ("ko", "words"), ("vi", "words"), ("xx", "words"), ("zh", "characters"),
    ("zho_Hans", "characters"), ("ja", "characters"), ("th", "characters"), ("my", "characters"),
])  # fmt: skip
def test_languages_without_spaces_are_measured_in_characters(language: str, expected: str) -> None:
    assert unit(language) == expected


@pytest.mark.parametrize(("language", "text", "expected"), [
    ("en", "“Well-known,” he said (2 + 2).", ["well", "known", "he", "said", "2", "2"]),
    ("de", "Straße  STRASSE\u00a0Größe …", ["straße", "strasse", "größe"]),
    ("hi", "हिन्दी में है।", ["हिन्दी", "में", "है"]),  # vowel signs are part of a word
    ("fa", "می\u200cخواهم", ["می\u200cخواهم"]),  # and so is what keeps letters apart
    ("zh", "我爱你，OK。", ["我", "爱", "你", "o", "k"]),
    ("en", " … ", []),
])  # fmt: skip
def test_words_are_in_lower_case_and_without_marks(language: str, text: str, expected: list[str]) -> None:
    assert words(text, language) == expected


@pytest.mark.parametrize(("text", "language"), [
    ("go go go go go", "en"), ("Go, go, go, go, go, go", "en"), ("the red the red the red house", "en"),
    ("x one two three four five six seven eight " + "one two three four five six seven eight " * 2, "en"),
    (". . . . .", "en"), ("我爱你我爱你我爱你", "zh"),
])  # fmt: skip
def test_loops_are_found(text: str, language: str) -> None:
    assert loops(text, language)


@pytest.mark.parametrize(("text", "language"), [
    ("", "en"), ("very very very very good", "en"), ("the red the red house", "en"), ("wait ... what ?!", "en"),
    ("the red cat the red dog the red cow", "en"), ("哈哈哈哈", "zh"),
])  # fmt: skip
def test_emphasis_and_parallels_are_no_loops(text: str, language: str) -> None:
    assert not loops(text, language)


# ------------------------------------------------------------------------------------------------------- bands


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(2, 8))
def test_bands_part_the_rows_by_value(values: list[int], count: int) -> None:
    found = bands(values, count)
    assert sorted(row for band in found for row in band.rows) == list(range(len(values)))
    assert all({values[row] for row in band.rows} <= set(range(band.low, band.high + 1)) for band in found)
    assert all({band.low, band.high} <= {values[row] for row in band.rows} for band in found)
    assert all(lower.high < upper.low for lower, upper in pairwise(found))
    assert all(band.high == 0 for band in found if band.low == 0)
    assert len(found) <= count


def test_bands_are_about_equally_large() -> None:
    assert [len(band.rows) for band in bands(list(range(1, 61)), 6)] == [10] * 6
    assert [(b.low, b.high, len(b.rows)) for b in bands([0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8], 3)] == [
        (0, 0, 2), (1, 3, 5), (4, 8, 5)
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- frequencies


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two blocks and a half; the word of a pair is its block, and ``The`` is in all."""
    lines = [f"The block-{n // BLOCK} one\n" for n in range(5 * BLOCK // 2)]
    ids, text = Pieces.of([[1]] * len(lines)), Pieces.lines("".join(lines).encode())
    with StoreWriter(tmp_path, {"source": 9, "target": 9}) as writer:
        writer.add([ids, ids], [text, text])
    return Store(tmp_path)


def test_frequencies_are_those_of_a_naive_count(store: Store) -> None:
    lines = store.source.text(np.arange(len(store)))
    naive = Counter(word for line in lines for word in re.findall(r"\w+", line.lower()))
    found, read = frequencies(store, ["the", "0", "2", "missing"], "en")
    assert read == len(lines)
    assert found == {word: naive[word] for word in ("the", "0", "2")}
    assert found["missing"] == 0


def test_frequencies_of_a_large_text_are_scaled_from_a_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_BLOCKS", 2)
    found, read = frequencies(store, ["the", "0", "1", "2"], "en")
    assert read == 3 * BLOCK // 2  # the first block, and the half one at the end
    assert found == {"the": 5 * BLOCK // 2, "0": round(BLOCK * 5 / 3), "2": round(BLOCK * 5 / 6)}


# -------------------------------------------------------------------------------------------------------- maps


def test_a_map_gives_the_weights_back_to_a_half_step() -> None:
    torch.manual_seed(1)
    weights = torch.rand(3, 2, 4, 5).softmax(-1)
    drawn = json.loads(json.dumps(maps.packed(Alignment(list("abcde"), list("wxyz"), weights))))
    assert np.abs(weights_of(drawn) / 255 - weights.numpy()).max() <= 0.5 / 255 + 1e-6


class FakeTranslator:
    """All that the maps ask of one."""


def fake_alignments(layers: int, heads: int) -> Any:
    """Random weights between the words of each pair: what deflates least."""
    draw = torch.Generator().manual_seed(1)

    def alignments(_: Translator, sources: Sequence[str], targets: Sequence[str]) -> Iterator[Alignment]:
        for source, target in zip(sources, targets, strict=True):
            assert source.strip() and target.strip()
            s, t = source.split(), target.split()
            yield Alignment(s, t, torch.rand(layers, heads, len(t), len(s), generator=draw))

    return alignments


def test_maps_fill_the_room_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "alignments", fake_alignments(2, 2))
    monkeypatch.setattr(maps, "ROOM", 1500)
    monkeypatch.setattr(maps, "_LARGEST", 700)
    sources = ["a b c", " ", "a b c", "a " * 100, "a b c", *["a b c"] * 50]
    targets = ["x y z", "x", "", "x " * 3, *["x y z"] * 51]
    found, reason = maps.attention_maps(cast(Translator, FakeTranslator()), sources, targets)
    assert reason is None
    assert list(found) == [0, *range(4, 4 + len(found) - 1)]  # neither without text nor too large
    sizes = [len(json.dumps(drawn)) for drawn in found.values()]
    assert 1500 - max(sizes) < sum(sizes) <= 1500


def test_a_model_without_attention_says_why_there_are_no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Iterator[Alignment]:
        raise ConfigError("model.attention: none, so there is nothing to look at; use another")
        yield

    monkeypatch.setattr(maps, "alignments", refuse)
    found = maps.attention_maps(cast(Translator, FakeTranslator()), ["a"], ["b"])
    assert found == ({}, "model.attention: none, so there is nothing to look at")


# ------------------------------------------------------------------------------------------------------ gather


def sentence(chrf: float, text: str = "a", *flags: str) -> dict[str, Any]:
    return {"source": text, "translation": text, "references": [text], "chrf": chrf, "flags": list(flags)}


def test_shown_are_the_worst_the_best_the_odd_and_some_of_all() -> None:
    ranked = [sentence(float(n), "a", *(["empty"] if n == 777 else [])) for n in range(5000)]
    shown = gather._shown(ranked)
    assert [s["chrf"] for s in shown[:41]] == [*range(20), *range(4999, 4979, -1), 777]
    assert [s["flags"] for s in shown[:41]] == [["worst"]] * 20 + [["best"]] * 20 + [["empty"]]
    others = sorted(s["chrf"] for s in shown[41:])
    assert len(shown) <= 1000 < len(shown) + 250
    assert max(np.diff(others)) <= 7
    assert max(np.diff(sorted(s["chrf"] for s in shown[41:101]))) < 200  # whatever there is room for is spread


def test_few_sentences_are_all_shown() -> None:
    assert [s["flags"] for s in gather._shown([sentence(1.0), sentence(2.0), sentence(3.0)])] == [
        ["worst"],
        ["best"],
        [],
    ]
    assert gather._shown([sentence(1.0)]) == [sentence(1.0)]
    assert gather._shown([]) == []


def test_long_lines_are_cut_and_their_number_limited() -> None:
    ranked = [sentence(float(n), "汉" * 5000) for n in range(1000)]
    shown = gather._shown(ranked)
    size = sum(len(text.encode()) for s in map(gather._cut, shown) for text in gather._texts(s))
    assert 40 < len(shown) < 100
    assert size < 2_000_000


def test_curves_are_means_of_what_is_finite() -> None:
    log: list[dict[str, Any]] = [
        {"event": "train", "step": 10 * n, "loss": float(n), "nll": n / 2, "other": 1} for n in range(1, 801)
    ]
    log.insert(5, {"event": "train", "step": 55, "loss": math.nan, "nll": 1.0})
    log += [
        {"event": "valid", "step": 500, "nll": 2.0, "bleu": 3.0, "signature": "…"},
        {"event": "valid", "step": 500, "nll": 1.0, "bleu": 4.0, "checkpoint": "average-500"},
        {"event": "valid", "step": 600, "nll": None, "bleu": 4.0},
    ]
    curves = gather._curves(log)
    assert len(curves["train"]) == 400
    assert curves["train"][:2] == [{"step": 20, "loss": 1.5, "nll": 0.75}, {"step": 40, "loss": 3.5, "nll": 1.75}]
    assert curves["train"][-1]["step"] == 8000
    assert curves["valid"] == [{"step": 500, "nll": 2.0, "bleu": 3.0}]
    assert gather._curves([]) == {"train": [], "valid": []}


# -------------------------------------------------------------------------------------------------------- page


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
def test_embedded_json_is_the_same_again_and_ends_no_script(value: dict[str, Any]) -> None:
    text = page.embedded(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)


def test_the_policy_lets_only_the_page_itself_run() -> None:
    html = page.page({"run": "<b>&$x", "sentences": ["</script><script>alert(1)</script>"]})
    assert "<title>&lt;b&gt;&amp;$x: report</title>" in html
    assert html.count("</script>") == 2
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)[0]
    script, style = (
        re.findall(r"<script>(.*?)</script>", html, re.S)[0],
        re.findall(r"<style>(.*?)</style>", html, re.S)[0],
    )
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_a_thousand_sentences_of_a_large_model_stay_below_five_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 25 words a side and with six layers of eight heads: not all of them get a map."""
    monkeypatch.setattr(maps, "alignments", fake_alignments(6, 8))
    text = " ".join(f"wordword{n}" for n in range(25))
    shown = gather._shown([sentence(n / 10, text) for n in range(1000)])
    found, _ = maps.attention_maps(cast(Translator, FakeTranslator()), *([text] * len(shown) for _ in range(2)))
    for number, drawn in found.items():
        shown[number]["map"] = drawn
    assert len(shown) == 1000
    assert len(found) >= 60  # of random weights; those of a model deflate to a third
    assert len(page.page({"run": "large", "sentences": shown}).encode()) < 5_000_000

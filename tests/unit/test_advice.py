"""Advice on sizes: it agrees with what the rest of the program does and says, and fits together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt import config
from transformer_mt.config import SIZES, Training
from transformer_mt.data.advice import advise
from transformer_mt.data.tokenizer import default_vocab_size


@pytest.mark.parametrize(
    ("pairs", "gpu", "size", "dropout"),
    [
        (500, False, "tiny", 0.3),
        (29_000, False, "tiny", 0.2),  # Multi30k
        (29_000, True, "tiny", 0.2),
        (200_000, False, "tiny", 0.1),
        (200_000, True, "small", 0.3),  # IWSLT
        (500_000, True, "small", 0.1),
        (4_500_000, True, "base", 0.1),  # WMT 2014, English to German
        (36_000_000, True, "big", 0.1),  # and to French
        (36_000_000, False, "tiny", 0.1),
    ],
)
def test_the_model_grows_with_the_corpus(pairs: int, gpu: bool, size: str, dropout: float) -> None:
    advice = advise(pairs, 20.0, gpu=gpu)
    assert (advice.size, advice.dropout) == (size, dropout)


def test_an_hour_is_enough_for_multi30k_on_a_cpu() -> None:
    advice = advise(29_000, 14.0, gpu=False)
    assert (advice.max_minutes, advice.max_steps, advice.batch_tokens) == (60, None, 4096)
    # 60 minutes of 6,000 tokens a second, of 29,000 · 14 tokens
    assert advice.passes == pytest.approx(60 * 60 * 6000 / (29_000 * 14))


def test_millions_of_pairs_are_trained_as_in_the_paper() -> None:
    advice = advise(4_500_000, 28.0, gpu=True)
    assert (advice.max_steps, advice.max_minutes, advice.batch_tokens) == (100_000, None, 25_000)
    assert advice.warmup_steps == 4000
    assert advice.learning_rate == pytest.approx((512 * 4000) ** -0.5, rel=0.01)


@given(st.integers(1, 10**9), st.floats(1, 256), st.booleans())
def test_advice_fits_together(pairs: int, tokens: float, gpu: bool) -> None:
    advice = advise(pairs, tokens, gpu=gpu)
    assert advice.vocab_size == default_vocab_size(pairs)
    assert advice.size in SIZES
    config.Transformer(size=advice.size, dropout=advice.dropout)  # type: ignore[arg-type]
    Training(
        batch_tokens=advice.batch_tokens,
        warmup_steps=advice.warmup_steps,
        learning_rate=advice.learning_rate,
        max_minutes=advice.max_minutes,
        max_steps=advice.max_steps or 100_000,
        validate_every=advice.validate_every,
    )
    steps = advice.passes * pairs * tokens / advice.batch_tokens
    if pairs * tokens > advice.batch_tokens:
        assert 10 * advice.warmup_steps <= max(steps, 1000) * 1.001
        assert advice.validate_every * 10 <= steps * 1.001
    assert (advice.max_minutes is None) == gpu == (advice.max_steps is not None)
    assert all(reason and "\n" not in reason for reason in advice.why.values())


@given(st.integers(1, 10**8), st.integers(1, 10**8), st.booleans())
def test_more_text_never_gets_a_smaller_model_nor_more_dropout_at_its_size(few: int, many: int, gpu: bool) -> None:
    less, more = (advise(pairs, 20.0, gpu=gpu) for pairs in sorted((few, many)))
    order = list(SIZES)
    assert order.index(less.size) <= order.index(more.size)
    assert less.vocab_size <= more.vocab_size
    if less.size == more.size:
        assert less.dropout >= more.dropout

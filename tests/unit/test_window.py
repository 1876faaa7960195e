"""Attention in a window against dense attention with a band for a mask."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transformer_mt.model.attention import KeyValue
from transformer_mt.model.masks import attention_bias, causal_mask
from transformer_mt.model.scores import Additive, ScaledDot
from transformer_mt.model.window import Window

K = 3


def example(length: int, *, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, S, K]."""
    torch.manual_seed(seed)
    query, key, value = (torch.randn(batch, 2, length, K, dtype=torch.float64).requires_grad_() for _ in range(3))
    return query, key, value


def dense(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over what is allowed [B, 1, S, S], by its definition; nothing comes of what may see nothing."""
    weights = (query @ key.transpose(-2, -1) / math.sqrt(K)).exp() * allowed
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-300) @ value


def band(length: int, radius: int, *, causal: bool) -> Tensor:
    """Which [S, S] of n positions see each other, from |i - j|."""
    rows = [[abs(i - j) <= radius and (j <= i or not causal) for j in range(length)] for i in range(length)]
    return torch.tensor(rows)


def compare(length: int, radius: int, real: list[int], *, causal: bool) -> None:
    """Values and gradients, at positions that are no padding; none of them is NaN anywhere."""
    query, key, value = example(length, batch=len(real))
    mask = torch.arange(length) < torch.tensor(real)[:, None]  # [B, S]
    bias = causal_mask(length, mask.device) if causal else mask[:, None, None]
    found = Window(ScaledDot(K), radius).among(query, KeyValue(key, value), attention_bias(bias), causal=causal)
    allowed = band(length, radius, causal=causal)
    wanted = dense(query, key, value, allowed if causal else allowed & mask[:, None, None])
    assert found.isfinite().all()
    kept = torch.ones_like(mask) if causal else mask
    up = torch.randn_like(found) * kept[:, None, :, None]
    ours, theirs = (torch.autograd.grad(output, (query, key, value), up) for output in (found, wanted))
    kept = kept[:, None, :, None].expand_as(found)
    torch.testing.assert_close(found[kept], wanted[kept])
    torch.testing.assert_close(ours, theirs)


@given(length=st.integers(1, 70), radius=st.integers(1, 40), short=st.integers(0, 70), causal=st.booleans())
def test_equals_dense_attention_with_a_band(length: int, radius: int, short: int, causal: bool) -> None:
    """The second sentence has padding, up to all but one position; a causal batch is never told of its padding."""
    compare(length, radius, [length, max(1, length - short)], causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("radius", [1, 16, 17, 32, 200])
def test_lengths_around_blocks(length: int, radius: int, causal: bool) -> None:
    compare(length, radius, [length, 1], causal=causal)


def test_a_neighbour_too_far_away_changes_nothing() -> None:
    """Radius 2 of 40 positions: a key at 20 is seen from 18 to 22, causally from 20 to 22."""
    for causal, first in ((False, 18), (True, 20)):
        query, key, value = (x.detach() for x in example(40, batch=1))
        bias = torch.zeros(1, 1, 1, 40, dtype=torch.float64)
        window = Window(ScaledDot(K), 2)
        before = window.among(query, KeyValue(key, value), bias, causal=causal)
        key, value = key.clone(), value.clone()
        key[:, :, 20] += 1
        value[:, :, 20] += 1
        after = window.among(query, KeyValue(key, value), bias, causal=causal)
        changed = (after != before).flatten(0, 1).any(0).any(-1).nonzero()[:, 0].tolist()
        assert changed == list(range(first, 23))


def test_any_score_will_do() -> None:
    """Additive is no product of a query and a key."""
    query, key, value = (x.detach() for x in example(37))
    torch.manual_seed(3)
    score = Additive(K).double()
    found = Window(score, 5).among(
        query, KeyValue(score.prepare(key), value), torch.zeros(2, 1, 1, 37, dtype=torch.float64), causal=False
    )
    scores = score(query, score.prepare(key)).masked_fill(~band(37, 5, causal=False), float("-inf"))
    torch.testing.assert_close(found, scores.softmax(-1) @ value)


def test_bfloat16_and_a_batch_of_padding_alone_give_no_nan() -> None:
    query, key, value = (x.detach().bfloat16() for x in example(21))
    bias = torch.full((2, 1, 1, 21), float("-inf"), dtype=torch.bfloat16)
    found = Window(ScaledDot(K), 4).among(query, KeyValue(key, value), bias, causal=False)
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()

"""Linear attention against the dense φ(q) φ(k)ᵀ, each row divided by its sum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transformer_mt.model.attention import KeyValue
from transformer_mt.model.fast_weights import FastWeights, features
from transformer_mt.model.masks import attention_bias, causal_mask

K = 3


def phi(x: Tensor) -> Tensor:
    """elu(x) + 1 in two cases."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def dense(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    weights = phi(query) @ phi(key).transpose(-2, -1) * allowed  # [B, H, S, S]
    return weights / weights.sum(-1, keepdim=True) @ value


def example(batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(length)
    query, key, value = (torch.randn(batch, 2, length, K).requires_grad_() for _ in range(3))
    return query, key, value


def compare(length: int, real: list[int], *, causal: bool) -> None:
    query, key, value = example(len(real), length)
    mask = torch.arange(length) < torch.tensor(real)[:, None]  # [B, S]
    allowed = causal_mask(length, mask.device) if causal else mask[:, None, None]
    mix = FastWeights()
    memory = KeyValue(mix.prepare(key), value)
    found = mix.among(query, memory, attention_bias(allowed), causal=causal)
    wanted = dense(query, key, value, allowed)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    leaves, up = (query, key, value), torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(output, leaves, up, retain_graph=True) for output in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    # Written out, as decoding and what is looked at do it, it is the same.
    torch.testing.assert_close(mix(query, memory, attention_bias(allowed))[0], wanted)


@given(length=st.integers(1, 150), short=st.integers(0, 150), causal=st.booleans())
def test_equals_the_dense_product(length: int, short: int, causal: bool) -> None:
    compare(length, [length, max(1, length - short)], causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 193, 300])
def test_lengths_around_chunks(length: int, causal: bool) -> None:
    compare(length, [length, 1], causal=causal)


def test_weights_are_features_divided_by_their_sum() -> None:
    """φ(0) = 1, φ(1) = 2: of keys 0 and 1 the second has twice the weight, whatever the query."""
    mix = FastWeights()
    key = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    _, weights = mix(torch.randn(1, 1, 3, 1), KeyValue(mix.prepare(key), key), None)
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 2 / 3]).expand(1, 1, 3, 2))


def test_features_are_elu_plus_one() -> None:
    x = torch.tensor([-50.0, -1.0, 0.0, 0.5, 9.0])
    torch.testing.assert_close(features(x), phi(x))


@pytest.mark.parametrize("causal", [False, True])
def test_features_that_vanish_give_no_nan(causal: bool) -> None:
    query, key, value = (x.detach().bfloat16() for x in example(2, 70))
    mix = FastWeights()
    bias = attention_bias(causal_mask(70, key.device) if causal else torch.ones(2, 1, 1, 70).bool())
    found = mix.among(query - 200, KeyValue(mix.prepare(key - 200), value), bias, causal=causal)
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()

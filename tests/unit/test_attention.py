"""Attention against worked examples, by hand, and by its symmetries."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from transformer_mt.model.attention import MultiHeadAttention, attend, softmax
from transformer_mt.model.masks import attention_bias, causal_mask, padding_mask
from transformer_mt.model.scores import Dot

# The worked example of many tutorials: three inputs of width 4, keys, queries and values of width 3, unscaled.
INPUTS = torch.tensor([[1.0, 0, 1, 0], [0, 2, 0, 2], [1, 1, 1, 1]])
W_KEY = torch.tensor([[0.0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 0]])
W_QUERY = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 1]])
W_VALUE = torch.tensor([[0.0, 2, 0], [0, 3, 0], [1, 0, 3], [1, 1, 0]])


def test_worked_example_of_tutorials() -> None:
    keys, queries, values = INPUTS @ W_KEY, INPUTS @ W_QUERY, INPUTS @ W_VALUE
    assert keys.tolist() == [[0, 1, 1], [4, 4, 0], [2, 3, 1]]
    assert (queries[0] @ keys.T).tolist() == [2, 4, 4]
    output, weights = attend(queries, keys, values, score=Dot(3))
    expected = [[1.9366, 6.6831, 1.5951], [2.0000, 7.9640, 0.0540], [1.9997, 7.7599, 0.3584]]
    torch.testing.assert_close(output, torch.tensor(expected), atol=5e-5, rtol=0)
    torch.testing.assert_close(weights[0], torch.tensor([0.063, 0.468, 0.468]), atol=5e-4, rtol=0)


def test_worked_example_with_its_simplified_weights() -> None:
    """Tutorials round the first weights to 0, ½, ½; the values then mix to [2, 7, 1.5]."""
    assert (torch.tensor([0.0, 0.5, 0.5]) @ (INPUTS @ W_VALUE)).tolist() == [2.0, 7.0, 1.5]


@given(st.integers(1, 40), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]), st.integers(0, 99))
def test_softmax_of_any_length_and_its_gradient(length: int, precision: torch.dtype, seed: int) -> None:
    """Against e^x / Σ e^x in float64; half of the last positions are hidden."""
    torch.manual_seed(seed)
    scores = torch.randn(2, 3, 4, length).to(precision)
    scores[1, ..., (length + 1) // 2 :] = float("-inf")
    seed_gradient = torch.randn(scores.shape, dtype=torch.float64)
    exact, ours = scores.double().clone().requires_grad_(), scores.clone().requires_grad_()
    powers = exact.exp()
    expected = powers / powers.sum(-1, keepdim=True)
    found = softmax(ours)
    assert found.dtype == (torch.float64 if precision == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(softmax(ours), found, atol=1e-6, rtol=1e-6)
    [expected_gradient] = torch.autograd.grad(expected, exact, seed_gradient)
    [gradient] = torch.autograd.grad(found, ours, seed_gradient.to(found.dtype))
    tolerance = 1e-2 if precision == torch.bfloat16 else 1e-6  # of the gradient, which is rounded to it
    torch.testing.assert_close(gradient.double(), expected_gradient, atol=tolerance, rtol=tolerance)


def test_scale_is_one_over_the_root_of_the_head_width() -> None:
    # q·k = 4 and 0, K = 4: softmax(4/2, 0) = e²/(e² + 1)
    _, weights = attend(torch.ones(1, 4), torch.tensor([[1.0] * 4, [0.0] * 4]), torch.zeros(2, 4))
    torch.testing.assert_close(weights[0, 0].item(), 0.8807970779778823, atol=1e-6, rtol=0)


def test_masks_by_hand() -> None:
    ids = torch.tensor([[5, 6, 0], [7, 0, 0]])
    assert padding_mask(ids, 0).tolist() == [[[[True, True, False]]], [[[True, False, False]]]]
    assert causal_mask(3, torch.device("cpu")).tolist() == [[True, False, False], [True, True, False], [True] * 3]
    bias = attention_bias(torch.tensor([True, False]))
    assert bias.tolist() == [0.0, float("-inf")]
    assert (torch.ones(2, dtype=torch.bfloat16) + bias).dtype == torch.float32  # added fast, and as softmax has it


def attention(width: int, heads: int) -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(width, heads).double().eval()


@torch.no_grad()
def naive(layer: MultiHeadAttention, x: Tensor, memory: Tensor, allowed: Tensor) -> Tensor:
    """Multi-head attention with loops over batch, head, query and key."""
    width, k = x.shape[2], x.shape[2] // layer.heads
    out = torch.zeros(x.shape, dtype=x.dtype)
    for b in range(x.shape[0]):
        q = x[b] @ layer.query.weight.T + layer.query.bias
        key = memory[b] @ layer.key.weight.T + layer.key.bias
        value = memory[b] @ layer.value.weight.T + layer.value.bias
        for h in range(layer.heads):
            part = slice(h * k, (h + 1) * k)
            for t in range(x.shape[1]):
                scores = [float(q[t, part] @ key[s, part]) / k**0.5 for s in range(memory.shape[1])]
                exps = [torch.tensor(s).double().exp() * bool(allowed[b, t, i]) for i, s in enumerate(scores)]
                for s, e in enumerate(exps):
                    out[b, t, part] += e / sum(exps) * value[s, part]
    assert width == layer.heads * k
    return out @ layer.output.weight.T + layer.output.bias


def test_equals_naive_loops() -> None:
    layer = attention(width=22, heads=11)
    x, memory = torch.randn(2, 5, 22).double(), torch.randn(2, 7, 22).double()
    allowed = torch.rand(2, 5, 7) < 0.6
    allowed[:, :, 3] = True
    bias = attention_bias(allowed[:, None])
    ours, _ = layer(x, layer.project(memory), bias)
    torch.testing.assert_close(ours, naive(layer, x, memory, allowed), atol=1e-6, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(7)))
def test_without_positions_attention_is_permutation_equivariant(order: list[int]) -> None:
    layer, x = attention(width=12, heads=3), torch.randn(1, 7, 12).double()
    there = layer(x, layer.project(x), None)[0][:, order]
    shuffled = x[:, order]
    torch.testing.assert_close(layer(shuffled, layer.project(shuffled), None)[0], there)

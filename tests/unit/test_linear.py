"""The affine map and its gradient, by whatever kernel, are those of the naive formula."""

from contextlib import nullcontext
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from transformer_mt.model.linear import Linear, matmul, outer_product
from transformer_mt.model.packing import PackedLinear

ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("precision", ROUNDING, ids=str)
@pytest.mark.parametrize("shape", [(11, 7), (7, 11), (257, 263), (263, 257)], ids=str)  # small, and large enough
def test_values_and_gradients_equal_the_naive_ones(shape: tuple[int, int], precision: torch.dtype, relu: bool) -> None:
    """Of x [2, 5, in], in x's precision; the gradients of weight and bias stay float32."""
    if relu and precision == torch.bfloat16 and max(shape) > 100:
        pytest.skip("of so many sums some are rounded across zero")
    torch.manual_seed(1)
    linear = Linear(*shape, relu=relu)
    x = torch.randn(2, 5, shape[0], requires_grad=True)
    towards = torch.randn(2, 5, shape[1])
    exact = x @ linear.weight.T + linear.bias
    exact = exact.clamp(min=0) if relu else exact
    wanted = torch.autograd.grad(exact, (x, linear.weight, linear.bias), towards)
    rounded = x.detach().to(precision).requires_grad_()
    output = linear(rounded)
    assert output.dtype == precision
    found = torch.autograd.grad(output, (rounded, linear.weight, linear.bias), towards.to(precision))
    assert [gradient.dtype for gradient in found] == [precision, torch.float32, torch.float32]
    for ours, naive in zip((output, *found), (exact, *wanted), strict=True):
        size = float(naive.detach().abs().mean())
        torch.testing.assert_close(
            ours.float(), naive, atol=5 * ROUNDING[precision] * max(size, 1), rtol=ROUNDING[precision]
        )


def test_gradient_by_finite_differences() -> None:
    """In float64, which takes the same path as a GPU does."""
    torch.manual_seed(1)
    linear = Linear(3, 5, relu=True).double()
    assert torch.autograd.gradcheck(linear, torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(("rows", "left", "right"), [(17, 3, 5), (65, 257, 263), (65, 263, 257)])
def test_outer_product(rows: int, left: int, right: int) -> None:
    """Of a few multiplications, and of so many that oneDNN is asked."""
    torch.manual_seed(1)
    a, b = torch.randn(rows, left), torch.randn(rows, right)
    torch.testing.assert_close(outer_product(a, b).double(), a.double().T @ b.double(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("batch", [(2, 3), (160, 4)], ids=str)  # small, and large enough for oneDNN
def test_products_of_a_batch_and_their_gradients(batch: tuple[int, int]) -> None:
    """Of a transposed factor, as the keys are: those of float64, far closer than bfloat16 would come to them."""
    torch.manual_seed(1)
    left, right = torch.randn(*batch, 14, 64, requires_grad=True), torch.randn(*batch, 15, 64, requires_grad=True)
    towards = torch.randn(*batch, 14, 15)
    output = matmul(left, right.transpose(2, 3))
    exact = left.double() @ right.double().transpose(2, 3)
    found = torch.autograd.grad(output, (left, right), towards)
    wanted = torch.autograd.grad(exact, (left, right), towards.double())
    for ours, naive in zip((output, *found), (exact, *wanted), strict=True):
        torch.testing.assert_close(ours.double(), naive.double(), atol=1e-5, rtol=1e-5)
    assert found[1].is_contiguous()  # as the keys are


@pytest.mark.parametrize(("sentences", "given"), [(160, True), (2, False)])
def test_large_products_in_float32_are_given_to_onednn(
    sentences: int, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward; small ones are not, whose kernel takes longer to compile."""
    asked = Mock(side_effect=nullcontext)
    monkeypatch.setattr("transformer_mt.model.linear.products_by_onednn", asked)
    left, right = (torch.randn(sentences, 4, 14, 64, requires_grad=True) for _ in range(2))
    torch.autograd.grad(matmul(left, right.transpose(2, 3)).sum(), (left, right))
    assert asked.call_count == 2 * given
    outer_product(torch.randn(100 * sentences, 64), torch.randn(100 * sentences, 32))
    assert asked.call_count == 3 * given
    matmul(left.bfloat16(), right.transpose(2, 3).bfloat16())
    assert asked.call_count == 3 * given


def test_products_of_matrices_that_many_share() -> None:
    """Large, but one of the factors is repeated for each sentence: its gradient is summed over them."""
    torch.manual_seed(1)
    left, right = torch.randn(160, 4, 14, 64, requires_grad=True), torch.randn(4, 64, 32, requires_grad=True)
    towards = torch.randn(160, 4, 14, 32)
    found = torch.autograd.grad(matmul(left, right), (left, right), towards)
    wanted = torch.autograd.grad(torch.einsum("bhtk,hks->bhts", left, right), (left, right), towards)
    for ours, naive in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, naive, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("by_sums", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bias", [torch.arange(48.0).sin(), None], ids=["bias", "none"])
@torch.inference_mode()
def test_few_rows_are_computed_as_many_are(
    bias: torch.Tensor | None, relu: bool, by_sums: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row alone is bit-equal to the same row among 33, where it has a product of its own and where it has none."""
    if not by_sums:
        monkeypatch.setattr("transformer_mt.model.packing.lone_row", lambda _: None)
    torch.manual_seed(1)
    x, weight = torch.randn(33, 64), torch.randn(48, 64)
    linear = PackedLinear(weight, bias, relu=relu)
    together = linear(x)
    wanted = F.linear(x, weight, bias)
    torch.testing.assert_close(together, wanted.relu() if relu else wanted)
    for rows in (0, 1, 2, 5, 16):
        assert torch.equal(linear(x[:rows]), together[:rows])
    assert torch.equal(linear(x[None, None, 7]), together[None, None, 7])


@pytest.mark.parametrize(("rows", "inside", "columns"), [(2, 44, 16), (1, 6, 64), (1, 64, 6), (5, 1, 64), (1, 399, 1)])
@torch.inference_mode()
def test_a_pair_of_matrices_is_multiplied_as_each_of_many(rows: int, inside: int, columns: int) -> None:
    """The first by the kernel of batched products, the others, which are few multiplications, one by one."""
    torch.manual_seed(1)
    left, right = torch.randn(3, rows, inside), torch.randn(3, columns, inside).transpose(1, 2)
    together = matmul(left, right)
    torch.testing.assert_close(together, left @ right)
    assert torch.equal(matmul(left[:1], right[:1]), together[:1])

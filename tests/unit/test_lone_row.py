"""The product of a single row is, to the bit, what oneDNN gives the same row among many."""

import pytest
import torch

from transformer_mt.model import lone_row as tried
from transformer_mt.model.lone_row import LoneRow, lone_row
from transformer_mt.model.onednn import HAS_ONEDNN, onednn_product

onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="there is nothing that it has to equal")
SIZES = [(64, 64), (100, 52), (1, 64), (768, 256), (256, 1024), (96, 640), (128, 2048)]


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, 64)  # type: ignore[no-any-return]


def test_by_hand() -> None:
    """3 · (1, 4) + 5 · (2, 6), in sums of one term each or two."""
    turned = torch.tensor([[1.0, 4.0], [2.0, 6.0]])
    for terms in (1, 2):
        assert LoneRow(turned, terms)(torch.tensor([[3.0, 5.0]])).tolist() == [13.0, 42.0]


@onednn
@pytest.mark.parametrize(("outside", "inside"), SIZES)
def test_equals_the_row_among_many(outside: int, inside: int) -> None:
    torch.manual_seed(1)
    weight = torch.randn(outside, inside)
    alone = lone_row(laid_out(weight))
    if alone is None:
        pytest.skip("this CPU's products are summed in another order: two rows are multiplied instead")
    for rows in (2, 5, 64, 130):
        x = torch.randn(rows, inside)
        wanted = onednn_product(x, laid_out(weight), None, relu=False)
        assert torch.equal(torch.stack([alone(row) for row in x]), wanted)


@onednn
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="other CPUs may have no such product")
def test_it_is_there_for_the_sizes_of_models() -> None:
    found = [size for size in SIZES if size[0] > 1 and lone_row(laid_out(torch.randn(size))) is not None]
    assert found == [size for size in SIZES if size[0] > 1]


@onednn
@pytest.mark.parametrize("parts", [2, 16])
def test_another_order_of_sums_is_found_out(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same products, added up in parts: equal but for the last bits."""

    def in_parts(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, relu: bool) -> torch.Tensor:
        pairs = zip(x.chunk(parts, 1), weight.to_dense().chunk(parts, 1), strict=True)
        total = torch.stack([a @ b.T for a, b in pairs]).sum(0)
        total = total if bias is None else total + bias
        return total.relu() if relu else total

    monkeypatch.setattr(tried, "onednn_product", in_parts)
    torch.manual_seed(1)
    assert lone_row(laid_out(torch.randn(64, 256))) is None


@onednn
@pytest.mark.parametrize("outside", [1, 64, 2048])
def test_it_is_compared_with_rows_among_others(outside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many numbers a single row would give: oneDNN may have another kernel for it."""
    rows: list[int] = []

    def counted(x: torch.Tensor, *rest: torch.Tensor, relu: bool) -> torch.Tensor:
        rows.append(len(x))
        return onednn_product(x, *rest, relu=relu)

    monkeypatch.setattr(tried, "onednn_product", counted)
    lone_row(laid_out(torch.randn(outside, 32)))
    assert len(rows) == 2
    assert min(rows) >= 4

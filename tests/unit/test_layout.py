"""What leaves a padded batch as rows comes back to its place, and so does its gradient."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transformer_mt.model.layout import ROWS, Layout

MASK = torch.tensor([[True, True, False, False], [True, True, True, False]])


def test_rows_by_hand() -> None:
    """Five real positions, and zeros after them."""
    x = torch.arange(96.0).view(2, 4, 12)
    stripped = Layout(MASK).strip(x)
    assert stripped.shape == (1, ROWS, 12)
    assert stripped[0, :5, 0].tolist() == [0, 12, 48, 60, 72]
    assert not stripped[0, 5:].any()


def test_a_row_is_left_over() -> None:
    """What stands in the padding is taken from there."""
    assert [Layout(torch.ones(1, n, dtype=torch.bool)).rows for n in (1, ROWS - 1, ROWS, ROWS + 1)] == [
        ROWS,
        ROWS,
        2 * ROWS,
        2 * ROWS,
    ]


def test_maps_are_split_to_heads_and_joined() -> None:
    """Two maps of three heads of width 2; what is at padding is a row of zeros."""
    x, layout = torch.randn(2, 4, 12), Layout(MASK)
    maps = layout.split(layout.strip(x), 2, 3)
    assert maps.shape == (2, 2, 3, 4, 2)
    for b, s in MASK.nonzero().tolist():
        assert maps[:, b, :, s].flatten().tolist() == x[b, s].tolist()
    assert not maps.transpose(2, 3)[:, ~MASK].any()
    assert torch.equal(layout.join(maps[1]), layout.strip(x)[..., 6:])


@given(st.data(), st.integers(1, 5), st.integers(1, 12))
def test_it_is_the_same_as_indexing(data: st.DataObject, batch: int, length: int) -> None:
    """Values and gradients, as PyTorch's own indexing gives them, of any batch that has no empty sentence."""
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, length), min_size=batch, max_size=batch)))
    mask = torch.arange(length) < lengths[:, None]
    layout, count, heads, width = Layout(mask), 3, 2, 4
    real = layout.real
    assert (real, layout.rows % ROWS, layout.rows > real) == (int(lengths.sum()), 0, True)
    x = torch.randn(batch, length, count * heads * width, requires_grad=True)
    weight = torch.randn(layout.rows, count * heads * width)

    def by_layout(x: Tensor) -> Tensor:
        maps = layout.split(layout.strip(x) * weight, count, heads)
        return (layout.place(layout.join(maps.prod(0)))[mask] ** 2).sum()

    def by_indexing(x: Tensor) -> Tensor:
        return ((x[mask] * weight[:real]).view(real, count, heads * width).prod(1) ** 2).sum()

    found, wanted = (torch.autograd.grad(f(x), x)[0] for f in (by_layout, by_indexing))
    torch.testing.assert_close(by_layout(x), by_indexing(x))
    torch.testing.assert_close(found, wanted)

"""The product of a single row: to the bit what oneDNN gives it among many, without the time for oneDNN to start."""

import torch
from torch import Tensor

from transformer_mt.model.onednn import onednn_product

_LARGEST = 1 << 20  # weights; with more of them oneDNN is as fast, and needs no second copy
_TERMS = (512, 1024)  # so many are added up at a time, the second in rows of more than 1,024
_TRIED = 1024  # numbers whose bits are looked at


class LoneRow:
    """x, one row [..., in] → x Wᵀ [out]: the sum of the rows of Wᵀ, each times its number of x.

    That is the sum of a bag of embeddings, which PyTorch adds up one after the other, as oneDNN does.
    """

    def __init__(self, turned: Tensor, terms: int) -> None:
        self.turned = turned  # Wᵀ [in, out]
        self.rows = torch.arange(len(turned), dtype=torch.int32)
        self.starts = torch.arange(0, len(turned), terms, dtype=torch.int32)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        x = x.contiguous().view(-1)
        total, *rest = torch.embedding_bag(self.turned, self.rows, self.starts, False, 0, False, x)[0]
        for sum_ in rest:
            total.add_(sum_)
        return total  # type: ignore[no-any-return]


def lone_row(laid_out: Tensor) -> LoneRow | None:
    """What multiplies a single row by a float32 weight [out, in] laid out for oneDNN, if it is exact and faster."""
    outside, inside = laid_out.shape
    if laid_out.numel() > _LARGEST:
        return None
    turned = onednn_product(torch.eye(inside), laid_out, None, relu=False)
    # Numbers whose products and sums all have to be rounded; of a single row oneDNN may have another kernel.
    x = torch.arange(float(inside * max(4, _TRIED // outside))).sin().view(-1, inside)
    bias = torch.arange(float(outside)).cos()
    wanted = onednn_product(x, laid_out, bias, relu=True)
    for terms in _TERMS:
        alone = LoneRow(turned, terms)
        if all(torch.equal(alone(row).add_(bias).relu_(), found) for row, found in zip(x, wanted, strict=True)):
            return alone
    return None

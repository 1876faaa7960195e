"""Products of 8-bit integers, with a scale for each row."""

import torch
from torch import Tensor

_LEAST = torch.tensor(1e-10)  # added to a scale, that of zeros is not to be 0


class Int8Linear:
    """The map in 8-bit integers, a scale for each row of x and of W: round(x / s) · round(W / r)ᵀ · s · r + b."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool) -> None:
        numbers, scale = quantized(weight)
        self.weight, self.scale = numbers.to(torch.int8).T, scale[:, 0]  # [in, out], [out]
        self.bias, self.relu = bias, relu

    def __call__(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        numbers, scale = quantized(x.reshape(-1, x.shape[-1]))
        output = whole_product(numbers, self.weight).mul_(scale)
        output = (
            output.mul_(self.scale) if self.bias is None else torch.addcmul(self.bias, output, self.scale, out=output)
        )
        return (output.relu_() if self.relu else output).view(*x.shape[:-1], -1)


def quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [R, D] as whole numbers from -127 to 127, still in float32, and the scale [R, 1] of each row."""
    sizes = rows.abs()
    scale = torch.add(_LEAST, sizes.amax(1, keepdim=True), alpha=1 / 127)
    return torch.div(rows, scale, out=sizes).round_(), scale


def whole_product(numbers: Tensor, weight: Tensor) -> Tensor:
    """Whole numbers [R, in] times an int8 weight [in, out], as float32 [R, out]."""
    sums = torch._int_mm(numbers.to(torch.int8), weight)
    return sums.view(torch.float32).copy_(sums)  # in place: new memory would take longer

"""How fast the machine multiplies matrices: the best rate of PyTorch's libraries over sizes, on the cores given."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.peers.meter import finish
from transformer_mt.model.onednn import has_kernel, onednn_product


def rate(precision: torch.dtype) -> float:
    """Floating-point operations a CPU-second (of this process), the best of several sizes.

    In float32 ``torch.mm`` is MKL's, which has less than half of oneDNN's rate on some processors.
    """
    best = 0.0
    libraries: list[Callable[[Tensor, Tensor], Tensor]] = [torch.mm]
    if has_kernel(precision):
        libraries.append(partial(onednn_product, bias=None, relu=False))
    for size in (1024, 2048, 3072, 4096):
        left, right = (torch.randn(size, size).to(precision) for _ in range(2))
        for product in libraries * 4:  # the first turn compiles and warms up
            started = time.process_time()
            product(left, right)
            best = max(best, 2 * size**3 / (time.process_time() - started))
    return best


def main() -> None:
    """Print both rates."""
    finish(float32=rate(torch.float32), bfloat16=rate(torch.bfloat16))


if __name__ == "__main__":
    main()

"""How fast the machine multiplies matrices: the best rate of ``torch.mm`` over sizes, on the cores given."""

import time

import torch

from benchmarks.peers.meter import finish


def rate(precision: torch.dtype) -> float:
    """Floating-point operations a CPU-second (of this process), the best of several sizes."""
    best = 0.0
    for size in (1024, 2048, 3072, 4096):
        left, right = (torch.randn(size, size).to(precision) for _ in range(2))
        torch.mm(left, right)
        for _ in range(3):
            started = time.process_time()
            torch.mm(left, right)
            best = max(best, 2 * size**3 / (time.process_time() - started))
    return best


def main() -> None:
    """Print both rates."""
    finish(float32=rate(torch.float32), bfloat16=rate(torch.bfloat16))


if __name__ == "__main__":
    main()

"""What oneDNN multiplies on this CPU, and how it is asked to: PyTorch gives it no product in float32 of itself."""

import platform
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch import Tensor

_ONE_AT_A_TIME = threading.Lock()
HAS_ONEDNN = bool(torch.backends.mkldnn.is_available()) and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


def has_kernel(precision: torch.dtype) -> bool:
    """Whether oneDNN has products of that precision for this CPU."""
    if precision == torch.bfloat16:
        return HAS_ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return HAS_ONEDNN and precision == torch.float32


KERNELS = {precision for precision in (torch.float32, torch.bfloat16) if has_kernel(precision)}


def onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """x [..., in] times weight [out, in] transposed, plus the bias; oneDNN may have laid out the weight."""
    after = "relu" if relu else "none"
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, after, [], "")  # type: ignore[no-any-return]


def products_by_onednn() -> AbstractContextManager[None]:
    """Within it, oneDNN does the products of PyTorch's float32 matrices, transposed or in batches, where it is exact.

    Elsewhere they stay with PyTorch's choice, as do those on other devices. One thread at a time may be within it.
    """
    return _may_round() if _is_exact() else nullcontext()


@contextmanager
def _may_round() -> Iterator[None]:
    """PyTorch gives oneDNN float32 products where their factors may be rounded to bfloat16."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with _ONE_AT_A_TIME:  # the setting is that of all threads
        before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before


@cache
def _is_exact() -> bool:
    """Whether oneDNN makes no use of that: on x86 it rounds for AMX alone, and there by the shape."""
    if not HAS_ONEDNN or platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_amx_tile_supported():
        return False
    x = torch.full((256, 256), 1 + 2.0**-12, dtype=torch.float32, device="cpu")  # in bfloat16 1
    with _may_round():
        return bool((x.T @ x > 256.1).all())

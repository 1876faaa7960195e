"""What the libraries below hold on to: little where it is dear, much where giving it back costs time."""

import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_few_kernels() -> None:
    """Let oneDNN keep 16 compiled kernels, not 1024; to be called before torch is imported.

    Training meets a new shape in nearly every batch. To compile its kernels takes no time that could be measured; to
    keep them and their room takes hundreds of megabytes.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "16")


def keep_freed_memory() -> None:
    """Let malloc reuse the memory of large tensors, not hand it back to the system (glibc only).

    To get it anew, page by page, was a tenth of a training step.
    """
    import ctypes

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)

"""How the memory of large tensors is kept."""

import ctypes
import sys

_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_MAX = 1, -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let malloc reuse the memory of large tensors, not hand it back to the system (glibc only).

    To get it anew, page by page, was a tenth of a training step. Nor does malloc set small pieces aside: to look
    through them whenever something larger is wanted takes a fiftieth of a single sentence's time.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_MXFAST, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)

"""Train a machine translation model from raw parallel text, and trust it.

One legend for the letters of tensor shapes in the whole package:

    B batch              D model width            V vocabulary
    S source length      H heads                  N beam size
    T target length      K width of a head        R rows being decoded (B·N or fewer)
                         F feed-forward width

Tensors are batch-first; in boolean masks True means "may attend".
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Translator", "Wanted"]

# Before torch is imported: oneDNN is to keep 24 compiled kernels, not 1024. Training meets a new shape in nearly every
# batch. To compile its kernels takes a fiftieth of the time; to keep them takes hundreds of megabytes.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "24")
# Tensors of more than 2 MB in huge pages, where Linux has them: float32 training does 1.013 times as much.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from transformer_mt.translate import Translator, Wanted


def __getattr__(name: str) -> Any:
    """Import what is public at first use: ``mt --help`` must not wait for torch."""
    if name in __all__:
        from transformer_mt import translate

        return getattr(translate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

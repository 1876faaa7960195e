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

# What torch reads when it is imported. oneDNN is to keep 40 compiled kernels, not 1024: training meets a new shape in
# nearly every batch; to compile its kernels takes a fiftieth of the time, to keep them hundreds of megabytes. Tensors
# of 2 MB and more get huge pages: float32 training does 1.013 times as much. Torch would warn where Linux has none.
ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "40", "LRU_CACHE_CAPACITY": "40"}
if os.access("/sys/kernel/mm/transparent_hugepage", os.F_OK):
    ENVIRONMENT["THP_MEM_ALLOC_ENABLE"] = "1"
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from transformer_mt.translate import Translator, Wanted


def __getattr__(name: str) -> Any:
    """Import what is public at first use: ``mt --help`` must not wait for torch."""
    if name in __all__:
        from transformer_mt import translate

        return getattr(translate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The likeliest words of a vocabulary, without sorting it."""

import torch
from torch import Tensor

_SPAN = 64  # neighbouring words whose maximum is looked at first


def greatest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` greatest values of each row of x [R, V], or all, and their places, like ``topk``.

    They lie in the spans that have the greatest maxima: to find these takes one pass, to sort the few is nothing.
    """
    vocabulary = x.shape[1]
    spans = vocabulary // _SPAN
    if spans <= count:
        return x.topk(min(count, vocabulary), dim=1)
    inside = torch.arange(_SPAN, device=x.device)
    best = x[:, : spans * _SPAN].reshape(len(x), spans, _SPAN).amax(2).topk(count, dim=1).indices  # [R, count]
    places = (best[:, :, None] * _SPAN + inside).flatten(1)
    rest = torch.arange(spans * _SPAN, vocabulary, device=x.device).expand(len(x), -1)
    places = torch.cat((places, rest), dim=1)
    values, index = x.gather(1, places).topk(count, dim=1)
    return values, places.gather(1, index)

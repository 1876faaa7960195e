"""The probabilities of a vocabulary and its likeliest words, without sorting it."""

import torch
from torch import Tensor

from transformer_mt.model.likeliest import SPAN


def log_softmax_(logits: Tensor) -> Tensor:
    """Log p of logits [R, V], in float32, in their place where that fits: new memory costs as much as the exponents."""
    logits = logits.float()
    return torch.log_softmax(logits, -1, out=logits)


def greatest(x: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` greatest of the N·V numbers x [B, N, V] + scores [B, N] of each b, or all, and their places.

    They lie in the spans that have the greatest maxima: to find these takes one pass, to sort the few is nothing.
    """
    rows, beam, vocabulary = x.shape
    spans, rest = divmod(vocabulary, SPAN)
    if beam * spans <= count:
        return (x + scores[:, :, None]).flatten(1).topk(min(count, beam * vocabulary), dim=1)
    maxima = x[:, :, : spans * SPAN].reshape(rows, beam, spans, SPAN).amax(3) + scores[:, :, None]
    best = maxima.flatten(1).topk(count, dim=1).indices  # [B, count]
    parents = best // spans  # of the N
    starts = best % spans * SPAN + parents * vocabulary
    places = starts[:, :, None] + torch.arange(SPAN, device=x.device)  # [B, count, SPAN]
    values = x.flatten(1).gather(1, places.flatten(1)).view_as(places) + scores.gather(1, parents)[:, :, None]
    places, values = places.flatten(1), values.flatten(1)
    if rest:
        last = torch.arange(vocabulary - rest, vocabulary, device=x.device)
        last = last + torch.arange(0, beam * vocabulary, vocabulary, device=x.device)[:, None]  # [N, rest]
        places = torch.cat((places, last.flatten().expand(rows, -1)), dim=1)
        values = torch.cat((values, (x[:, :, -rest:] + scores[:, :, None]).flatten(1)), dim=1)
    values, index = values.topk(count, dim=1)
    return values, places.gather(1, index)

"""Translations of one and the same length, so that engines can be compared by their tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor

from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.special import EOS


@contextmanager
def never_ending(model: EncoderDecoder, length: int) -> Iterator[None]:
    """Keep a model from ending sentences, and stop search after so many tokens."""
    logits, likeliest = model.logits, model.likeliest

    def without_end(hidden: Tensor) -> Tensor:
        found = logits(hidden)
        found[..., EOS] = float("-inf")
        return found

    def limits(source: Tensor, *_: Any) -> list[int]:
        return [length] * len(source)

    with (
        mock.patch.object(model, "logits", without_end),
        mock.patch.object(model, "likeliest", lambda hidden, may_end: likeliest(hidden, may_end=False)),
        mock.patch("transformer_mt.decoding.greedy.length_limits", limits),
        mock.patch("transformer_mt.decoding.beam.length_limits", limits),
    ):
        yield

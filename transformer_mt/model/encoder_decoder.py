"""What all models have: embeddings, the projection to the vocabulary, and the contracts of training and decoding."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt import config
from transformer_mt.model.decoded import Decoded
from transformer_mt.model.likeliest import Screen, likeliest
from transformer_mt.model.scores import Dot


class EncoderDecoder(nn.Module, ABC):
    """Source ids in, target logits out.

    ``target_vocabulary`` None means a joint vocabulary: one embedding for the source, the target and the projection to
    V (Press and Wolf 2017). Otherwise target embedding and projection are one.
    """

    settings: config.Transformer | config.Recurrent

    def __init__(
        self,
        settings: config.Transformer | config.Recurrent,
        source_vocabulary: int,
        target_vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.precision = torch.float32  # of activations; weights, their gradients and sums stay float32
        self.source_embedding = nn.Embedding(source_vocabulary, settings.width)
        self.target_embedding = (
            self.source_embedding if target_vocabulary is None else nn.Embedding(target_vocabulary, settings.width)
        )
        # Other forms of the projection, for decoding: see packing.py.
        self.output: Callable[[Tensor], Tensor] | None = None
        self.screen: Screen | None = None

    def _initialise(self) -> None:
        """Xavier for products (Glorot and Bengio 2010); embeddings with deviation D^-1/2, which √D then undoes."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.settings.width**-0.5)
        for score in self.modules():
            if isinstance(score, Dot):
                score.initialise()

    @property
    def position_limit(self) -> int | None:
        """The longest sequence that the model has positions for; None when there is no limit."""
        return None

    @property
    def projection(self) -> Tensor:
        """The weight [V, D] of the projection to the vocabulary, tied to the target embedding."""
        return self.target_embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden [..., D] → logits [..., V]."""
        if self.output is not None:
            return self.output(hidden)
        return F.linear(hidden, self.projection.to(hidden.dtype))

    def likeliest(self, hidden: Tensor, *, may_end: bool) -> Tensor:
        """Hidden [R, D] → the word [R] of the greatest logit, of all words but the end token unless it ``may_end``."""
        if self.screen is not None:
            return self.screen(hidden, may_end=may_end)
        return likeliest(self.logits(hidden), may_end=may_end)

    @abstractmethod
    def forward(
        self, source: Tensor, target_in: Tensor, *, own: Tensor | None = None, attention: bool = False
    ) -> Decoded:
        """Teacher forcing: source [B, S] and the shifted target [B, T].

        Where ``own`` [B, T] is True, the model reads its likeliest token in place of the target's. ``attention`` asks
        for the attention to the source.
        """

    @abstractmethod
    def encode(self, source: Tensor) -> Any:
        """Source ids [B, S], filled up with PAD → memory."""

    @abstractmethod
    def start(self, memory: Any) -> Any:
        """The state before the first target token, one row a sentence."""

    @abstractmethod
    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The last token of each row, ids [R] → hidden [R, D] of the next, and the state with it."""

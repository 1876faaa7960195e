"""The encoder-decoder Transformer (Vaswani et al. 2017), pre-norm by default."""

import math
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt import config
from transformer_mt.model.attention import KeyValue
from transformer_mt.model.decoded import Decoded
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.layers import DecoderLayer, Dropout, EncoderLayer, make_norm
from transformer_mt.model.layout import Layout
from transformer_mt.model.masks import attention_bias, causal_mask, padding_mask
from transformer_mt.model.positions import Learned, Rotary, Sinusoidal
from transformer_mt.model.state import Cache, Memory, State, filled_up
from transformer_mt.special import PAD


class Transformer(EncoderDecoder):
    """Source ids in, target logits out, and nothing recurrent in between."""

    settings: config.Transformer

    def __init__(
        self, settings: config.Transformer, source_vocabulary: int, target_vocabulary: int | None = None
    ) -> None:
        super().__init__(settings, source_vocabulary, target_vocabulary)
        self.head_width = settings.width // settings.heads
        self.source_positions, self.target_positions = self._positions(), self._positions()
        self.rotary = Rotary(self.head_width) if settings.positions == "rotary" else None
        self.dropout = Dropout(settings.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        # With post-norm the last layer has normalised already.
        pre = settings.norm_position == "pre"
        self.encoder_norm = make_norm(settings) if pre else nn.Identity()
        self.decoder_norm = make_norm(settings) if pre else nn.Identity()
        self._initialise()

    def _positions(self) -> nn.Module | None:
        match self.settings.positions:
            case "sinusoidal":
                return Sinusoidal(self.settings.width)
            case "learned":
                return Learned(self.settings.max_positions, self.settings.width)
        return None

    @property
    def position_limit(self) -> int | None:
        """The longest sequence that the model has positions for; None when there is no limit."""
        return self.settings.max_positions if self.settings.positions == "learned" else None

    def _embed(
        self,
        ids: Tensor,
        embedding: nn.Embedding,
        positions: nn.Module | None,
        start: int = 0,
        layout: Layout | None = None,
    ) -> Tensor:
        """Ids [B, T] → [B, T, D], or [1, M, D] with a layout."""
        x = F.embedding(ids, embedding.weight) * math.sqrt(self.settings.width)
        if positions is not None:
            x = positions(x, start)
        x = x.to(self.precision)
        return self.dropout(layout.strip(x) if layout else x)  # type: ignore[no-any-return]

    def encode(self, source: Tensor) -> Memory:
        """Encode source ids [B, S], filled up with PAD."""
        if not self.training:
            source = F.pad(source, (0, filled_up(source.shape[1], self.head_width) - source.shape[1]), value=PAD)
        layout = Layout(source != PAD)
        x = self._embed(source, self.source_embedding, self.source_positions, layout=layout)  # [1, M, D]
        bias = attention_bias(padding_mask(source, PAD))
        for layer in self.encoder:
            x = layer(x, bias, self.rotary, layout)
        return Memory(self.encoder_norm(x), bias, layout)

    def forward(
        self, source: Tensor, target_in: Tensor, *, own: Tensor | None = None, attention: bool = False
    ) -> Decoded:
        """As :meth:`EncoderDecoder.forward`; what it would have written is found by a pass of its own.

        (Mihaylova and Martins 2019.)
        """
        memory = self.encode(source)
        keys = self._source_keys(memory)
        # What a model has written may have a padding token in it that is no padding: the target alone tells.
        layout = Layout(target_in != PAD if self.training else torch.ones_like(target_in, dtype=torch.bool))
        if own is not None:
            with torch.no_grad():
                hidden = self._decode(memory, keys, target_in, layout)
                target_in = torch.where(own, self._written(hidden, target_in), target_in)
        seen: list[Tensor] | None = [] if attention else None
        hidden = self._decode(memory, keys, target_in, layout, seen)
        return Decoded(hidden, seen and [weights[..., : source.shape[1]] for weights in seen])

    def _decode(
        self,
        memory: Memory,
        keys: list[KeyValue],
        target_in: Tensor,
        layout: Layout,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """All target positions at once: target_in [B, T] → hidden [B, T, D]; ``seen`` gets each layer's attention."""
        x = self._embed(target_in, self.target_embedding, self.target_positions, layout=layout)  # [1, M, D]
        causal = attention_bias(causal_mask(target_in.shape[1], x.device))
        for layer, source in zip(self.decoder, keys, strict=True):
            x, weights = layer(x, causal, source, memory.bias, self.rotary, layout)
            if seen is not None:
                seen.append(weights)
        return layout.place(self.decoder_norm(x))

    def _written(self, hidden: Tensor, target_in: Tensor) -> Tensor:
        """The likeliest token [B, T] at each position but the first, where the target's begins."""
        likeliest = torch.cat([self.logits(row).argmax(-1)[None] for row in hidden[:, :-1]])
        return torch.cat((target_in[:, :1], likeliest), dim=1)

    def start(self, memory: Memory) -> State:
        """As :meth:`EncoderDecoder.start`."""
        keys = self._source_keys(memory)
        nothing = memory.bias.new_empty(len(memory.bias), 1, 0)
        return State([Cache(layer) for layer in keys], keys, memory.bias, nothing)

    def _source_keys(self, memory: Memory) -> list[KeyValue]:
        """The keys and values of the source, [B, H, S, K] each, for every layer of the decoder."""
        return [
            cast(DecoderLayer, layer).cross_attention.project(memory.hidden, memory.layout) for layer in self.decoder
        ]

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """The last token of each row, ids [R] → hidden [R, D] of the next, and the state with it."""
        position, bias = state.length, state.advance()
        rotate = partial(self.rotary.at, position=position) if self.rotary else None
        x = self._embed(ids[:, None], self.target_embedding, self.target_positions, position)
        x = x.view(len(state.memory_bias), -1, self.settings.width)  # [B, N, D]
        for layer, written, memory in zip(self.decoder, state.written, state.memory, strict=True):
            x = cast(DecoderLayer, layer).step(x, written, bias, memory, state.memory_bias, rotate)
        return self.decoder_norm(x).view(len(ids), -1), state

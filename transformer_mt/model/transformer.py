"""The encoder-decoder Transformer (Vaswani et al. 2017), pre-norm by default."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt import config
from transformer_mt.model.attention import KeyValue
from transformer_mt.model.layers import DecoderLayer, Dropout, EncoderLayer, make_norm
from transformer_mt.model.masks import Layout, attention_bias, causal_mask, padding_mask
from transformer_mt.model.positions import Learned, Rotary, Sinusoidal
from transformer_mt.model.state import Cache, Memory, State, filled_up
from transformer_mt.special import PAD


class Transformer(nn.Module):
    """Source ids in, target logits out.

    ``target_vocabulary`` None means a joint vocabulary: one embedding for the source, the target and the projection to
    V (Press and Wolf 2017). Otherwise target embedding and projection are one.
    """

    def __init__(self, settings: config.Model, source_vocabulary: int, target_vocabulary: int | None = None) -> None:
        super().__init__()
        self.settings, self.head_width = settings, settings.width // settings.heads
        self.precision = torch.float32  # of activations; weights, their gradients and sums stay float32
        self.source_embedding = nn.Embedding(source_vocabulary, settings.width)
        self.target_embedding = (
            self.source_embedding if target_vocabulary is None else nn.Embedding(target_vocabulary, settings.width)
        )
        self.source_positions, self.target_positions = self._positions(), self._positions()
        self.rotary = Rotary(self.head_width) if settings.positions == "rotary" else None
        self.dropout = Dropout(settings.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        # With post-norm the last layer has normalised already.
        pre = settings.norm_position == "pre"
        self.encoder_norm = make_norm(settings) if pre else nn.Identity()
        self.decoder_norm = make_norm(settings) if pre else nn.Identity()
        self.output: Callable[[Tensor], Tensor] | None = None  # another form of the projection: see packing.py
        self._initialise()

    def _positions(self) -> nn.Module | None:
        match self.settings.positions:
            case "sinusoidal":
                return Sinusoidal(self.settings.width)
            case "learned":
                return Learned(self.settings.max_positions, self.settings.width)
        return None

    def _initialise(self) -> None:
        """Xavier for products (Glorot and Bengio 2010); embeddings with deviation D^-1/2, which √D then undoes."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.settings.width**-0.5)

    @property
    def position_limit(self) -> int | None:
        """The longest sequence that the model has positions for; None when there is no limit."""
        return self.settings.max_positions if self.settings.positions == "learned" else None

    def _embed(self, ids: Tensor, embedding: nn.Embedding, positions: nn.Module | None, start: int = 0) -> Tensor:
        x = F.embedding(ids, embedding.weight) * math.sqrt(self.settings.width)
        if positions is not None:
            x = positions(x, start)
        return self.dropout(x).to(self.precision)  # type: ignore[no-any-return]

    def encode(self, source: Tensor) -> Memory:
        """Encode source ids [B, S], filled up with PAD."""
        layout = None
        if not self.training:
            source = F.pad(source, (0, filled_up(source.shape[1], self.head_width) - source.shape[1]), value=PAD)
            layout = Layout(source != PAD)
        x = self._embed(source, self.source_embedding, self.source_positions)  # [B, S, D]
        bias = attention_bias(padding_mask(source, PAD), x.dtype)
        x = layout.strip(x) if layout else x
        for layer in self.encoder:
            x = layer(x, bias, self.rotary, layout)
        return Memory(self.encoder_norm(x), bias, layout)

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Teacher forcing: source [B, S] and the shifted target [B, T] → hidden [B, T, D], not yet projected to V."""
        return self.decode(self.encode(source), target_in)

    def decode(self, memory: Memory, target_in: Tensor) -> Tensor:
        """All target positions at once: target_in [B, T] → hidden [B, T, D]."""
        x = self._embed(target_in, self.target_embedding, self.target_positions)
        causal = attention_bias(causal_mask(target_in.shape[1], x.device), x.dtype)
        for layer, keys in zip(self.decoder, self._source_keys(memory), strict=True):
            x = layer(x, causal, keys, memory.bias, self.rotary)
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    @property
    def projection(self) -> Tensor:
        """The weight [V, D] of the projection to the vocabulary, tied to the target embedding."""
        return self.target_embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden [..., D] → logits [..., V]."""
        if self.output is not None:
            return self.output(hidden)
        return F.linear(hidden, self.projection.to(hidden.dtype))

    def start(self, memory: Memory, beam: int) -> State:
        """The state before the first target token, for ``beam`` rows of each sentence."""
        keys = self._source_keys(memory)
        nothing = torch.empty(len(memory.bias), beam, 0, dtype=torch.bool, device=memory.bias.device)
        return State([Cache(layer) for layer in keys], keys, memory.bias, nothing)

    def _source_keys(self, memory: Memory) -> list[KeyValue]:
        """The keys and values of the source, [B, H, S, K] each, for every layer of the decoder."""
        return [
            cast(DecoderLayer, layer).cross_attention.project(memory.hidden, memory.layout) for layer in self.decoder
        ]

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """The last token of each row, ids [R] → logits [R, V] of the next, and the state with it."""
        position, bias = state.length, state.advance()
        rotate = partial(self.rotary.at, position=position) if self.rotary else None
        x = self._embed(ids[:, None], self.target_embedding, self.target_positions, position)
        x = x.view(len(state.memory_bias), -1, self.settings.width)  # [B, N, D]
        for layer, written, memory in zip(self.decoder, state.written, state.memory, strict=True):
            x = cast(DecoderLayer, layer).step(x, written, bias, memory, state.memory_bias, rotate)
        return self.logits(self.decoder_norm(x)).view(len(ids), -1), state

"""The recurrent encoder-decoder with attention (Bahdanau et al. 2015; Luong et al. 2015)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_mt import config
from transformer_mt.model.attention import Full, KeyValue
from transformer_mt.model.cells import Cell, make_cell, read
from transformer_mt.model.decoded import Decoded
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.hard_attention import Hard
from transformer_mt.model.layers import Dropout
from transformer_mt.model.linear import Linear
from transformer_mt.model.local_attention import Local
from transformer_mt.model.masks import attention_bias
from transformer_mt.model.scores import Dot, make_score
from transformer_mt.model.state import filled_up, take
from transformer_mt.special import PAD


@dataclass
class RecurrentMemory:
    """The encoded source: keys and values [B, S, D], their bias [B, 1, S], and a first state for each decoder layer."""

    source: KeyValue
    bias: Tensor
    states: list[Tensor]  # [B, D] each, of an LSTM [B, 2D]


@dataclass
class RecurrentState:
    """What the next token of R = B · N rows depends on, the rows of a sentence side by side."""

    source: KeyValue  # of B sentences
    bias: Tensor  # [B, 1, S]
    states: list[Tensor]  # [R, D] each, of an LSTM [R, 2D]
    fed: Tensor  # [R, D]: what the step before made of its attention

    def select(self, rows: Tensor) -> None:
        """As :meth:`State.select`."""
        beam = len(self.fed) // len(self.bias)
        sentences, rows = rows[:, 0] // beam, rows.flatten()
        key, value = self.source.key, self.source.value
        kept = take(key, sentences)
        self.source = KeyValue(kept, kept if value is key else take(value, sentences))  # one may be the other
        self.bias = take(self.bias, sentences)
        self.states, self.fed = [state[rows] for state in self.states], self.fed[rows]


class Recurrent(EncoderDecoder):
    """An encoder that reads in both directions, and a decoder that looks at what it made of each source position.

    A decoder step: the cells read the last token y and, with input feeding, a'; their output h asks the source for a
    context c; a = tanh(W [c; h]) is projected to V (Luong et al. 2015, equation 5). Without attention the context is
    the same in all steps: the last states of the encoder (Cho et al. 2014).
    """

    settings: config.Recurrent

    def __init__(
        self, settings: config.Recurrent, source_vocabulary: int, target_vocabulary: int | None = None
    ) -> None:
        super().__init__(settings, source_vocabulary, target_vocabulary)
        width = settings.width
        self.dropout = Dropout(settings.dropout)
        ahead, back = ([make_cell(settings.cell, width, width // 2) for _ in range(settings.layers)] for _ in range(2))
        inputs = [2 * width if settings.input_feeding else width, *[width] * (settings.layers - 1)]
        decoder = [make_cell(settings.cell, size, width) for size in inputs]
        self.forwards, self.backwards, self.decoder = map(nn.ModuleList, (ahead, back, decoder))
        self.first = Linear(width, sum(cell.parts * width for cell in decoder))
        self.attention = self._make_attention()
        self.combine = Linear(2 * width, width)
        self._initialise()
        for cell in (*ahead, *back, *decoder):
            for gate in cell.recurrence.weight.split(cell.width):  # type: ignore[no-untyped-call]
                nn.init.orthogonal_(gate)

    def _make_attention(self) -> Full:
        settings = self.settings
        match settings.attention:
            case "local":
                return Local(make_score(settings.score, settings.width), settings.width, settings.window)
            case "hard":
                return Hard(make_score(settings.score, settings.width), settings.width)
            case "none":
                return Full(Dot(settings.width))  # of one position
        return Full(make_score(settings.score, settings.width))

    def _embed(self, ids: Tensor, embedding: nn.Embedding) -> Tensor:
        x = F.embedding(ids, embedding.weight) * math.sqrt(self.settings.width)
        return self.dropout(x).to(self.precision)  # type: ignore[no-any-return]

    def encode(self, source: Tensor) -> RecurrentMemory:
        """Encode source ids [B, S], filled up with PAD."""
        if not self.training:
            source = F.pad(source, (0, filled_up(source.shape[1], self.settings.width) - source.shape[1]), value=PAD)
        real = source != PAD
        x = self._embed(source, self.source_embedding)
        for ahead, back in zip(_cells(self.forwards), _cells(self.backwards), strict=True):
            outputs, last = zip(read(ahead, x, real, backwards=False), read(back, x, real, backwards=True), strict=True)
            x = self.dropout(torch.cat(outputs, dim=2))  # [B, S, D]
            end = torch.cat(last, dim=1)  # [B, D]
        states = list(torch.tanh(self.first(end)).chunk(len(self.decoder), dim=1))
        if self.settings.attention == "none":
            x, real = end[:, None], real[:, :1]
        return RecurrentMemory(KeyValue(self.attention.prepare(x), x), attention_bias(real[:, None]), states)

    def forward(
        self, source: Tensor, target_in: Tensor, *, own: Tensor | None = None, attention: bool = False
    ) -> Decoded:
        """As :meth:`EncoderDecoder.forward`."""
        state = self.start(self.encode(source))
        hidden: list[Tensor] = []
        looked: list[tuple[Tensor, ...]] = []
        # At once: the gradient of each lookup would be as large as the table.
        for t, x in enumerate(self._embed(target_in, self.target_embedding).unbind(1)):
            if own is not None and t and own[:, t].any():
                with torch.no_grad():
                    likeliest = self.logits(hidden[-1]).argmax(-1)
                x = torch.where(own[:, t, None], self._embed(likeliest, self.target_embedding), x)
            new, *rest = self._advance(x, state)
            hidden.append(new)
            looked.append(tuple(rest))
        weights, *drawn = (torch.cat(column, dim=1) for column in zip(*looked, strict=True))  # [B, T, S], [B, T] each
        decoded = Decoded(torch.stack(hidden, dim=1), told=self.settings.input_feeding or own is not None)
        if attention and self.settings.attention != "none":
            decoded.attention = [weights[:, None, :, : source.shape[1]]]  # [B, 1, T, S]
        if drawn:
            decoded.choice, decoded.baseline = drawn
        return decoded

    def start(self, memory: RecurrentMemory) -> RecurrentState:
        """As :meth:`EncoderDecoder.start`."""
        nothing = memory.source.value.new_zeros(len(memory.bias), self.settings.width)
        return RecurrentState(memory.source, memory.bias, list(memory.states), nothing)

    def step(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """As :meth:`EncoderDecoder.step`."""
        hidden, *_ = self._advance(self._embed(ids, self.target_embedding), state)
        return hidden, state

    def _advance(self, x: Tensor, state: RecurrentState) -> list[Tensor]:
        """Read the embedding x [R, D] of a token: a [R, D], weights [B, N, S], and what drawing gave, [B, N] each."""
        if self.settings.input_feeding:
            x = torch.cat((x, state.fed), dim=1)
        for layer, cell in enumerate(_cells(self.decoder)):
            state.states[layer] = cell(cell.inputs(x), state.states[layer])
            x = state.states[layer][:, : self.settings.width]
            if layer + 1 < len(self.decoder):
                x = self.dropout(x)
        query = x.view(len(state.bias), -1, self.settings.width)  # [B, N, D]
        drawn = isinstance(self.attention, Hard) and self.training
        look = self.attention.draw if drawn else self.attention
        context, weights, *choice = look(query, state.source, state.bias)  # type: ignore[operator]
        state.fed = self.dropout(torch.tanh(self.combine(torch.cat((context, query), dim=2)))).flatten(0, 1)
        return [state.fed, weights, *choice]


def _cells(modules: nn.ModuleList) -> Iterator[Cell]:
    return cast(Iterator[Cell], iter(modules))

"""Greedy search: the likeliest token at every step."""

import torch
from torch import Tensor

from transformer_mt.decoding.candidates import log_softmax_
from transformer_mt.decoding.hypothesis import Decodable, Hypothesis, closing_ranks, length_limits
from transformer_mt.model.likeliest import argmax
from transformer_mt.special import BOS, EOS


def greedy(model: Decodable, source: Tensor, length_penalty: float = 1.0, *, scored: bool = True) -> list[Hypothesis]:
    """Translate source ids [B, S]; finished sentences leave the batch.

    Unless ``scored``, the probabilities of words are not computed, only which is the greatest.
    """
    limits = length_limits(source, model.position_limit)
    state = model.start(model.encode(source))
    written: list[list[int]] = [[] for _ in limits]
    total = [0.0] * len(limits)  # Σ log p of each sentence
    ended = [False] * len(limits)
    alive = list(range(len(limits)))  # the sentence of each row
    ids = torch.full((len(limits),), BOS, device=source.device)
    if len(alive) == 1:  # a row is done twice: that costs less than to fill it up to two in every product
        ids = ids.repeat(2)
        state.select(torch.zeros(2, 1, dtype=torch.int64, device=source.device))
    length = 0
    while alive:
        hidden, state = model.step(ids, state)
        length += 1
        log_p, ids = _likeliest(model, hidden, may_end=length > 1, scored=scored)
        going = []
        for row, (sentence, token, value) in enumerate(zip(alive, ids.tolist(), log_p.tolist(), strict=False)):
            total[sentence] += value
            if token == EOS:
                ended[sentence] = True
            else:
                written[sentence].append(token)
                if length < limits[sentence]:
                    going.append(row)
        if len(going) < len(alive):
            going = closing_ranks(going)
            rows = torch.tensor(going, dtype=torch.int64, device=source.device)
            alive, ids = [alive[row] for row in going], ids[rows]
            if going:
                state.select(rows[:, None])
    return [
        Hypothesis(tokens, sum_ / (len(tokens) + end) ** length_penalty, sum_)
        for tokens, sum_, end in zip(written, total, ended, strict=True)
    ]


def _likeliest(model: Decodable, hidden: Tensor, *, may_end: bool, scored: bool) -> tuple[Tensor, Tensor]:
    """Hidden [R, D] → log p [R] of the likeliest words, NaN unless ``scored``, and these words [R]."""
    if not scored:
        return hidden.new_full((len(hidden),), float("nan")), model.likeliest(hidden, may_end=may_end)
    logits = model.logits(hidden)
    if not may_end:
        logits[:, EOS] = float("-inf")
    words = argmax(logits)
    return log_softmax_(logits).gather(1, words[:, None])[:, 0], words

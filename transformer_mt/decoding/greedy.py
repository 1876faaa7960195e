"""Greedy search: the likeliest token at every step."""

import torch
from torch import Tensor

from transformer_mt.decoding.candidates import log_softmax_
from transformer_mt.decoding.hypothesis import Decodable, Hypothesis, closing_ranks, length_limits
from transformer_mt.model.likeliest import likeliest
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
    length = 0
    while alive:
        hidden, state = model.step(ids, state)
        length += 1
        ids, log_p = _likeliest(model, hidden, may_end=length > 1, scored=scored)
        going = []
        for row, (sentence, token, value) in enumerate(zip(alive, ids.tolist(), log_p, strict=True)):
            total[sentence] += value
            if token == EOS:
                ended[sentence] = True
            else:
                written[sentence].append(token)
                if length < limits[sentence]:
                    going.append(row)
        if len(going) < len(alive):
            going = closing_ranks(going)
            kept = torch.tensor(going, dtype=torch.int64, device=source.device)
            alive, ids = [alive[row] for row in going], ids[kept]
            if going:
                state.select(kept[:, None])
    return [
        Hypothesis(tokens, sum_ / (len(tokens) + end) ** length_penalty, sum_)
        for tokens, sum_, end in zip(written, total, ended, strict=True)
    ]


def _likeliest(model: Decodable, hidden: Tensor, *, may_end: bool, scored: bool) -> tuple[Tensor, list[float]]:
    """Hidden [R, D] → the likeliest words [R], and their log p, NaN unless ``scored``."""
    if not scored:
        return model.likeliest(hidden, may_end=may_end), [float("nan")] * len(hidden)
    logits = model.logits(hidden)
    words = likeliest(logits, may_end=may_end)
    return words, log_softmax_(logits).gather(1, words[:, None])[:, 0].tolist()

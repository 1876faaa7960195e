"""Greedy search: the likeliest token at every step."""

import torch
from torch import Tensor

from transformer_mt.decoding.hypothesis import Decodable, Hypothesis, length_limits
from transformer_mt.special import BOS, EOS


def greedy(model: Decodable, source: Tensor, length_penalty: float = 1.0) -> list[Hypothesis]:
    """Translate source ids [B, S]; finished sentences leave the batch."""
    limits = length_limits(source, model.position_limit)
    state = model.start(model.encode(source), 1)
    written: list[list[int]] = [[] for _ in limits]
    total = torch.zeros(len(limits), dtype=torch.float64, device=source.device)  # Σ log p of each sentence
    alive = list(range(len(limits)))  # the sentence of each row
    ids = torch.full((len(limits),), BOS, device=source.device)
    ended = [False] * len(limits)
    length = 0
    while alive:
        logits, state = model.step(ids, state)
        length += 1
        logits = logits.float()
        if length == 1:
            logits[:, EOS] = float("-inf")  # it counts in the sum of beam search's log p as impossible, too
        best, ids = logits.max(-1)
        total[torch.tensor(alive, device=source.device)] += (best - logits.logsumexp(-1)).double()
        going = []
        for row, (sentence, token) in enumerate(zip(alive, ids.tolist(), strict=True)):
            if token == EOS:
                ended[sentence] = True
            else:
                written[sentence].append(token)
                if length < limits[sentence]:
                    going.append(row)
        if len(going) < len(alive):
            rows = torch.tensor(going, dtype=torch.int64, device=source.device)
            alive, ids = [alive[row] for row in going], ids[rows]
            if going:
                state.select(rows)
    return [
        Hypothesis(tokens, sum_ / max(1, len(tokens) + end) ** length_penalty, sum_)
        for tokens, sum_, end in zip(written, total.tolist(), ended, strict=True)
    ]

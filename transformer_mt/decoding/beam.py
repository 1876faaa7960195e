"""Beam search: keep the N likeliest beginnings of each sentence."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_mt.decoding.candidates import greatest, log_softmax_
from transformer_mt.decoding.hypothesis import Decodable, Hypothesis, closing_ranks, length_limits
from transformer_mt.special import BOS, EOS


def beam_search(
    model: Decodable, source: Tensor, beam: int, length_penalty: float = 1.0, patience: float = 1.0
) -> list[list[Hypothesis]]:
    """Translate source ids [B, S] into the ``beam`` best hypotheses of each sentence, best first.

    Each step looks at the 2N likeliest continuations of a sentence. Those among the first N that end are finished; the
    N best that go on are the next beam. A sentence is done when N · patience hypotheses are finished, or at its
    longest length, where the first N are taken as they are. Finished sentences leave the batch.
    """
    limits, device = length_limits(source, model.position_limit), source.device
    wanted = max(1, round(beam * patience))
    finished: list[list[Hypothesis]] = [[] for _ in limits]
    alive = list(range(len(limits)))
    state = model.start(model.encode(source))
    # N is 1 before the first token, as all rows would be equal.
    ids = torch.full((len(alive),), BOS, device=device)
    scores = torch.zeros(len(alive), 1, device=device)  # Σ log p, [B, N]
    steps: list[tuple[list[int], list[int]]] = []  # the row that each row [B · N] continued, and its token
    while alive:
        hidden, state = model.step(ids, state)
        best, parents, tokens = _candidates(model.logits(hidden), scores, beam, first=not steps)
        length, width = len(steps) + 1, scores.shape[1]
        kept, changed = [], False
        for row, (sentence, of_one) in enumerate(zip(alive, tokens[:, :beam].tolist(), strict=True)):
            last = length == limits[sentence]
            if last or EOS in of_one:
                changed = True
                for token, parent, log_p in zip(of_one, parents[row].tolist(), best[row].tolist(), strict=False):
                    if (token == EOS or last) and log_p != float("-inf"):
                        ids_ = _written(steps, row * width + parent) + [token] * (token != EOS)
                        finished[sentence].append(Hypothesis(ids_, log_p / length**length_penalty, log_p))
            if not last and len(finished[sentence]) < wanted:
                kept.append(row)
        if not kept:
            break
        kept = closing_ranks(kept)
        alive = [alive[row] for row in kept]
        places = torch.tensor(kept, device=device)
        if changed:
            # The first N candidates that go on: a stable sort puts those that end last.
            going = (tokens[places] == EOS).long().argsort(dim=1, stable=True)
            best, parents, tokens = (x[places].gather(1, going) for x in (best, parents, tokens))
        scores, ids = best[:, :beam], tokens[:, :beam].flatten()
        rows = places[:, None] * width + parents[:, :beam]
        state.select(rows)
        steps.append((rows.flatten().tolist(), ids.tolist()))
    return [sorted(hypotheses, key=lambda h: -h.score)[:beam] for hypotheses in finished]


def _candidates(logits: Tensor, scores: Tensor, beam: int, *, first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The 2N best continuations of each sentence: their scores, the row they continue, their token; [B, 2N] each.

    Where there are fewer, impossible ones fill up.
    """
    if first:
        logits[:, EOS] = float("-inf")
    vocabulary = logits.shape[1]
    best, places = greatest(log_softmax_(logits).view(*scores.shape, vocabulary), scores, 2 * beam)
    if missing := 2 * beam - best.shape[1]:
        best, places = F.pad(best, (0, missing), value=float("-inf")), F.pad(places, (0, missing))
    return best, places // vocabulary, places % vocabulary


def _written(steps: list[tuple[list[int], list[int]]], row: int) -> list[int]:
    """The tokens that led to a row."""
    ids = []
    for rows, tokens in reversed(steps):
        ids.append(tokens[row])
        row = rows[row]
    return ids[::-1]

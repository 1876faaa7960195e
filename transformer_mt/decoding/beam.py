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
    tokens = torch.empty(len(alive), 1, 0, dtype=torch.int64, device=device)  # [B, N, t]
    scores = torch.zeros(len(alive), 1, device=device)  # Σ log p, [B, N]
    while alive:
        hidden, state = model.step(ids, state)
        logits = model.logits(hidden)
        candidate_scores, parents, candidates = _candidates(logits, scores, beam, first=tokens.shape[2] == 0)
        tokens = torch.cat((tokens.gather(1, _like(parents, tokens)), candidates[:, :, None]), dim=2)  # [B, 2N, t]
        length = tokens.shape[2]
        keep = []
        for row, (sentence, row_ids, row_scores) in enumerate(
            zip(alive, candidates[:, :beam].tolist(), candidate_scores[:, :beam].tolist(), strict=True)
        ):
            last = length == limits[sentence]
            for rank, (token, log_p) in enumerate(zip(row_ids, row_scores, strict=True)):
                if (token == EOS or last) and log_p != float("-inf"):
                    ids_ = tokens[row, rank, : length - (token == EOS)].tolist()
                    finished[sentence].append(Hypothesis(ids_, log_p / length**length_penalty, log_p))
            if not last and len(finished[sentence]) < wanted:
                keep.append(row)
        if not keep:
            break
        keep = closing_ranks(keep)
        kept = torch.tensor(keep, device=device)
        alive = [alive[row] for row in keep]
        # The first N candidates that go on: a stable sort puts those that end last.
        going = (candidates[kept] == EOS).long().argsort(dim=1, stable=True)[:, :beam]  # [B', N]
        state.select(kept[:, None] * scores.shape[1] + parents[kept].gather(1, going))
        tokens = tokens[kept].gather(1, _like(going, tokens))
        scores = candidate_scores[kept].gather(1, going)
        ids = tokens[:, :, -1].flatten()
    return [sorted(hypotheses, key=lambda h: -h.score)[:beam] for hypotheses in finished]


def _candidates(logits: Tensor, scores: Tensor, beam: int, *, first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The 2N best continuations of each sentence: their scores, the row they continue, their token; [B, 2N] each.

    Where there are fewer, impossible ones fill up.
    """
    if first:
        logits[:, EOS] = float("-inf")
    vocabulary = logits.shape[1]
    best, places = greatest(log_softmax_(logits).view(*scores.shape, vocabulary), scores, 2 * beam)
    missing = 2 * beam - best.shape[1]
    best, places = F.pad(best, (0, missing), value=float("-inf")), F.pad(places, (0, missing))
    return best, places // vocabulary, places % vocabulary


def _like(index: Tensor, tokens: Tensor) -> Tensor:
    """Index [B, M] repeated over the length of tokens [B, N, t], for gather."""
    return index[:, :, None].expand(-1, -1, tokens.shape[2])

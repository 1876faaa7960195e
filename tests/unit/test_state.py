"""The state of decoding: rows that move, keys that stay."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.decoding.candidates import greatest
from transformer_mt.decoding.hypothesis import closing_ranks
from transformer_mt.model.state import filled_up, take


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_taking_rows_is_indexing(rows: list[int]) -> None:
    """Also when they repeat, are more than before, or trade places."""
    x = torch.arange(27.0).view(9, 3)
    wanted = x[torch.tensor(rows)]
    assert torch.equal(take(x.clone(), torch.tensor(rows)), wanted)


@given(st.sets(st.integers(0, 20), max_size=21))
def test_ranks_close_with_the_fewest_moves(kept: set[int]) -> None:
    ranks = closing_ranks(sorted(kept))
    assert sorted(ranks) == sorted(kept)
    assert all(rank == place for place, rank in enumerate(ranks) if place in kept)


@given(st.integers(1, 300), st.integers(1, 5), st.integers(1, 12), st.integers(0, 2**31))
def test_the_greatest_are_those_of_a_full_sort(vocabulary: int, beam: int, count: int, seed: int) -> None:
    """Also when some of a beam's rows have the score minus infinity, as all but the first at the start."""
    chance = torch.Generator().manual_seed(seed)
    x, scores = torch.randn(3, beam, vocabulary, generator=chance), torch.randn(3, beam, generator=chance)
    scores[:, 1 + seed % 3 :] = float("-inf")
    values, places = greatest(x, scores, count)
    total = (x + scores[:, :, None]).flatten(1)
    assert torch.equal(values, total.sort(1, descending=True).values[:, :count])
    assert torch.equal(total.gather(1, places), values)


@given(st.integers(1, 200), st.sampled_from([2, 8, 25, 64]))
def test_keys_are_filled_up_to_a_multiple_of_four(keys: int, head_width: int) -> None:
    filled = filled_up(keys, head_width)
    assert filled >= keys
    assert filled % 4 == 0
    assert filled * head_width >= 400
    assert filled - keys < 4 or filled == filled_up(1, head_width)

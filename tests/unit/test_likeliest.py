"""The likeliest word, found without all logits, is the one that all logits tell."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_mt.model.likeliest import SPAN, Screen, argmax
from transformer_mt.special import EOS


def alike(rows: int, vocabulary: int, width: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden rows, and words in groups that differ by ``spread`` of their size: too little for 8 bits to tell."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(-(-vocabulary // 7), width, generator=generator).repeat_interleave(7, 0)[:vocabulary]
    words = base + spread * torch.randn(vocabulary, width, generator=generator)
    return torch.randn(rows, width, generator=generator), words


def wanted(hidden: torch.Tensor, weight: torch.Tensor, *, may_end: bool) -> torch.Tensor:
    """All products, in float64."""
    logits = hidden.double() @ weight.double().T
    if not may_end:
        logits[:, EOS] = float("-inf")
    return logits


def screen(weight: torch.Tensor, *, all_products: bool = True) -> Screen:
    """A screen, whose way out may be closed."""

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        assert all_products, "too many words are left"
        return hidden @ weight.T

    return Screen(weight, logits)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    vocabulary=st.integers(8, 300),
    width=st.integers(3, 40),
    spread=st.sampled_from([0.0, 1e-4, 1e-2, 1.0]),
    seed=st.integers(0, 1000),
    may_end=st.booleans(),
)
def test_the_screen_finds_the_word_of_the_greatest_product(
    rows: int, vocabulary: int, width: int, spread: float, seed: int, may_end: bool
) -> None:
    hidden, weight = alike(rows, vocabulary, width, spread, seed)
    logits = wanted(hidden, weight, may_end=may_end)
    found = screen(weight)(hidden, may_end=may_end)
    assert may_end or EOS not in found
    chosen = logits.gather(1, found[:, None])[:, 0]
    torch.testing.assert_close(chosen, logits.amax(1), atol=1e-5 * width, rtol=1e-5)  # float32's own rounding
    if spread == 0:
        equal = logits >= logits.amax(1, keepdim=True) - 1e-9
        assert torch.equal(found, equal.long().argmax(1)), "of equals the first"


def test_eight_bits_alone_would_find_others() -> None:
    """What the test above guards against: the margin makes the difference."""
    hidden, weight = alike(64, 300, 32, 1e-4, seed=1)
    right, careless = screen(weight), screen(weight)
    numbers, scale, *norms = careless._stored
    vars(careless)["_stored"] = numbers, scale, *(torch.zeros_like(norm) for norm in norms)
    best = wanted(hidden, weight, may_end=True).argmax(1)
    assert torch.equal(right(hidden, may_end=True), best)
    assert (careless(hidden, may_end=True) != best).float().mean() > 0.2


def trained(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden rows and 8,000 words as unlike as those of a trained model."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(8000, 64, generator=generator) / 8
    chosen = weight[torch.randint(8000, (rows,), generator=generator)]
    return 3 * chosen + torch.randn(rows, 64, generator=generator) / 8, weight


@pytest.mark.parametrize("outliers", [0, 1, 5])
def test_few_products_are_computed_in_float32(outliers: int) -> None:
    """Some two a row; words that are ten times as long as the others loosen the bounds of their neighbours alone."""
    hidden, weight = trained(50)
    weight[:: 8000 // max(outliers, 1)][:outliers] *= 10
    s, computed = screen(weight, all_products=False), []
    greatest = s._greatest

    def counted(hidden: torch.Tensor, rows: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        computed.append(len(words))
        return greatest(hidden, rows, words)

    with patch.object(s, "_greatest", counted):
        found = s(hidden, may_end=True)
    assert torch.equal(found, wanted(hidden, weight, may_end=True).argmax(1))
    assert 50 <= computed[0] < 250


@pytest.mark.parametrize("case", ["one number of hidden is great", "hidden is zero", "hidden is beyond all bounds"])
def test_rows_that_leave_too_many_words_have_all_products_computed(case: str) -> None:
    hidden, weight = trained(5)
    weight[:, 0] *= 0.01
    match case:
        case "one number of hidden is great":
            hidden[:, 0] = 100
        case "hidden is zero":
            hidden[:] = 0
        case _:
            hidden[:] = 3e19  # its norm is none
    usual, _ = trained(1)
    asked = []

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        asked.append(len(hidden))
        return hidden @ weight.T

    found = Screen(weight, logits)(torch.cat((hidden, usual)), may_end=False)
    assert asked == [5], "not of the usual one"
    assert EOS not in found
    best = (torch.cat((hidden, usual)) @ weight.T).index_fill(1, torch.tensor([EOS]), float("-inf")).argmax(1)
    assert torch.equal(found, best)


def test_a_row_does_not_depend_on_the_others() -> None:
    hidden, weight = alike(40, 200, 48, 1e-7, seed=3)
    s = screen(weight)
    together = s(hidden, may_end=True)
    assert [int(s(row[None], may_end=True)) for row in hidden] == together.tolist()


def test_what_is_no_number_chooses_some_word() -> None:
    assert 0 <= int(screen(torch.randn(70, 8))(torch.full((1, 8), float("nan")), may_end=True)) < 70


@pytest.mark.parametrize("vocabulary", [5, 64, 65, 100, 128, 500])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_argmax_is_that_of_pytorch(vocabulary: int, precision: torch.dtype) -> None:
    """In bfloat16 with many equals, of which the first is taken."""
    logits = torch.randn(33, vocabulary, generator=torch.Generator().manual_seed(vocabulary)).to(precision)
    logits[0, -1] = logits[1, 0] = 9.0
    first = (logits == logits.amax(1, keepdim=True)).long().argmax(1)
    assert torch.equal(argmax(logits), first)
    assert SPAN == 64, "the sizes above are chosen for it"

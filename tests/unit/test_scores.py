"""Every score against its equation, one query and one key at a time."""

import math
from typing import cast, get_args

import pytest
import torch
from torch import Tensor

from transformer_mt import config
from transformer_mt.model.scores import Additive, Dot, General, make_score

WIDTH = 7


def equation(name: str, score: Dot, q: Tensor, k: Tensor) -> Tensor:
    """The score of one query [K] and one key [K]."""
    match name:
        case "dot":
            return q.dot(k)
        case "scaled_dot":
            return q.dot(k) / math.sqrt(WIDTH)
        case "general":
            return q.dot(cast(General, score).key.weight.mv(k))
        case "additive":
            additive = cast(Additive, score)
            return additive.out.dot(torch.tanh(additive.query.weight.mv(q) + additive.key.weight.mv(k)))
        case "concat":
            concat = cast(Additive, score)
            w = torch.cat((concat.query.weight, concat.key.weight), dim=1)  # [K, 2K]
            return concat.out.dot(torch.tanh(w.mv(torch.cat((q, k)))))
    raise AssertionError(f"no equation of {name} here: write one")


@pytest.mark.parametrize("name", get_args(config.Score))
def test_each_score_is_its_equation(name: str) -> None:
    """With two dimensions before those of queries and keys; gradients too."""
    torch.manual_seed(1)
    score = make_score(name, WIDTH).double()
    query, key = torch.randn(2, 3, 5, WIDTH).double(), torch.randn(2, 3, 4, WIDTH).double()
    query.requires_grad_()
    key.requires_grad_()
    found = score(query, score.prepare(key))
    wanted = torch.stack(
        [
            equation(name, score, q, k)
            for queries, keys in zip(query.flatten(0, 1), key.flatten(0, 1), strict=True)
            for q in queries
            for k in keys
        ]
    ).view(2, 3, 5, 4)
    torch.testing.assert_close(found, wanted)
    leaves, up = [query, key, *score.parameters()], torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(found, leaves, up), torch.autograd.grad(wanted, leaves, up))


@pytest.mark.parametrize("name", get_args(config.Score))
def test_what_takes_over_the_product_of_dot_is_a_scaled_product(name: str) -> None:
    """What is made ready for decoding puts the factor of such scores into the queries, and takes the product itself."""
    torch.manual_seed(1)
    score = make_score(name, WIDTH)
    query, key = torch.randn(5, WIDTH), score.prepare(torch.randn(4, WIDTH))
    product = query @ key.T
    if type(score).forward is not Dot.forward:
        assert not torch.allclose(score(query, key), product)
    else:
        torch.testing.assert_close(score(query, key), score.factor * product)


def test_what_has_no_weights_and_what_has() -> None:
    """General has W, additive W, U and v, concat the same: its W is [K, 2K]."""
    count = {name: sum(p.numel() for p in make_score(name, WIDTH).parameters()) for name in get_args(config.Score)}
    assert count == {"scaled_dot": 0, "dot": 0, "general": 49, "additive": 2 * 49 + 7, "concat": 7 * 14 + 7}

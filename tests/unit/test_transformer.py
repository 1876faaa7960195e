"""The Transformer: shapes, causality, padding, every option."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_mt.config import Model
from transformer_mt.model.layers import Dropout
from transformer_mt.model.transformer import Transformer

VOCABULARY = 37


def model(**options: object) -> Transformer:
    torch.manual_seed(1)
    small = {"size": "tiny", "layers": 2, "width": 22, "heads": 11, "feed_forward": 29, **options}
    return Transformer(Model.model_validate(small), VOCABULARY).eval()


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def test_shapes_with_distinct_primes() -> None:
    m = model()
    source, target = ids(3, 5), ids(3, 7)
    assert m(source, target).shape == (3, 7, 22)
    assert m.logits(m(source, target)).shape == (3, 7, VOCABULARY)
    state = m.start(m.encode(source), 2)
    logits, _ = m.step(ids(6), state)
    assert logits.shape == (6, VOCABULARY)


OPTIONS = {
    "activation": ["relu", "gelu", "swiglu"],
    "norm": ["layer", "rms"],
    "norm_position": ["pre", "post"],
    "positions": ["sinusoidal", "learned", "rotary"],
}


@pytest.mark.parametrize("choice", list(itertools.product(*OPTIONS.values())), ids=lambda c: "-".join(c))
def test_every_option_is_causal_and_learns(choice: tuple[str, ...]) -> None:
    m = model(**dict(zip(OPTIONS, choice, strict=True)))
    source, target = ids(2, 5), ids(2, 7)
    hidden = m(source, target)
    changed = target.clone()
    changed[:, 4] = (changed[:, 4] + 1) % VOCABULARY
    after = m(source, changed)
    torch.testing.assert_close(after[:, :4], hidden[:, :4])
    assert (after[:, 4:] != hidden[:, 4:]).any()
    hidden.sum().backward()
    unused = [name for name, p in m.named_parameters() if p.grad is None]
    assert unused == []


@settings(deadline=None, max_examples=20)
@given(place=st.integers(0, 8), token=st.integers(4, VOCABULARY - 1))
def test_a_later_token_never_changes_an_earlier_output(place: int, token: int) -> None:
    m, source, target = model(), ids(1, 6), ids(1, 9)
    changed = target.clone()
    changed[0, place] = token
    torch.testing.assert_close(m(source, changed)[:, :place], m(source, target)[:, :place])


@settings(deadline=None, max_examples=20)
@given(extra=st.integers(1, 40), more_target=st.integers(0, 9))
def test_padding_never_changes_anything(extra: int, more_target: int) -> None:
    m, source, target = model(), ids(2, 6), ids(2, 5)
    padded_source = torch.nn.functional.pad(source, (0, extra))
    padded_target = torch.nn.functional.pad(target, (0, more_target))
    torch.testing.assert_close(m(padded_source, padded_target)[:, :5], m(source, target), atol=1e-5, rtol=1e-5)


def test_the_encoder_knows_the_order_of_words() -> None:
    for positions in OPTIONS["positions"]:
        m, source = model(positions=positions), ids(1, 6)
        there = m.encode(source).hidden[0, :6].flip(0)
        assert not torch.allclose(m.encode(source.flip(1)).hidden[0, :6], there, atol=1e-3), positions


def test_a_joint_vocabulary_has_one_embedding_and_separate_ones_have_two() -> None:
    joint = model()
    names = [name for name, _ in joint.named_parameters() if "embedding" in name]
    assert names == ["source_embedding.weight"]
    assert joint.projection is joint.source_embedding.weight
    separate = Transformer(joint.settings, 31, 41)
    assert separate.source_embedding.weight.shape == (31, 22)
    assert separate.projection.shape == (41, 22)


def test_parameter_count_by_hand() -> None:
    """V·D once; a layer: attention 4(D² + D), feed-forward 2DF + F + D, norms 2D each; encoder 2 norms, decoder 3."""
    d, f, v = 22, 29, VOCABULARY
    attention, feed = 4 * (d * d + d), 2 * d * f + f + d
    encoder, decoder = attention + feed + 2 * 2 * d, 2 * attention + feed + 3 * 2 * d
    assert sum(p.numel() for p in model().parameters()) == v * d + 2 * (encoder + decoder) + 2 * 2 * d


def test_dropout_zeroes_its_share_keeps_the_mean_and_rests_outside_training() -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(0.25), torch.ones(100_003)
    y = dropout(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert dropout.eval()(x) is x


def test_dropout_repeats_with_its_seed() -> None:
    dropout, x = Dropout(0.5), torch.ones(101)
    torch.manual_seed(5)
    first = dropout(x)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x))

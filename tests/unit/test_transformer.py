"""The Transformer: shapes, causality, padding, every option."""

import itertools
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_mt import config
from transformer_mt.model.layers import Dropout
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import PAD

VOCABULARY = 37


def model(**options: object) -> Transformer:
    torch.manual_seed(1)
    small = {"size": "tiny", "layers": 2, "width": 22, "heads": 11, "feed_forward": 29, **options}
    return Transformer(config.Transformer.model_validate(small), VOCABULARY).eval()


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def test_shapes_with_distinct_primes() -> None:
    m = model()
    source, target = ids(3, 5), ids(3, 7)
    assert m(source, target).hidden.shape == (3, 7, 22)
    assert m.logits(m(source, target).hidden).shape == (3, 7, VOCABULARY)
    hidden, state = m.step(ids(3), m.start(m.encode(source)))
    assert m.logits(hidden).shape == (3, VOCABULARY)
    state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    assert m.step(ids(6), state)[0].shape == (6, 22)


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
    hidden = m(source, target).hidden
    changed = target.clone()
    changed[:, 4] = (changed[:, 4] + 1) % VOCABULARY
    after = m(source, changed).hidden
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
    torch.testing.assert_close(m(source, changed).hidden[:, :place], m(source, target).hidden[:, :place])


@settings(deadline=None, max_examples=20)
@given(extra=st.integers(1, 40), more_target=st.integers(0, 9))
def test_padding_never_changes_anything(extra: int, more_target: int) -> None:
    m, source, target = model(), ids(2, 6), ids(2, 5)
    padded_source = torch.nn.functional.pad(source, (0, extra))
    padded_target = torch.nn.functional.pad(target, (0, more_target))
    torch.testing.assert_close(
        m(padded_source, padded_target).hidden[:, :5], m(source, target).hidden, atol=1e-5, rtol=1e-5
    )


def test_the_encoder_knows_the_order_of_words() -> None:
    for positions in OPTIONS["positions"]:
        m, source = model(positions=positions), ids(1, 6)
        there = m.encode(source).hidden[0, :6].flip(0)
        assert not torch.allclose(m.encode(source.flip(1)).hidden[0, :6], there, atol=1e-3), positions


def test_without_positions_the_encoder_does_not_know_it() -> None:
    """Words in another order are encoded as before, in that order; the decoder, causal, still knows that of its own."""
    m, source, target = model(positions="none"), ids(1, 6), ids(1, 5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(m.encode(source[:, order]).hidden[0, :6], m.encode(source).hidden[0, :6][order])
    torch.testing.assert_close(m(source[:, order], target).hidden, m(source, target).hidden)
    assert not torch.allclose(m(source, target.flip(1)).hidden.flip(1), m(source, target).hidden, atol=1e-3)


@settings(deadline=None, max_examples=15)
@given(places=st.lists(st.booleans(), min_size=14, max_size=14))
def test_tokens_of_its_own_are_those_that_a_first_pass_finds_likeliest(places: list[bool]) -> None:
    """Mihaylova and Martins 2019: position t reads the likeliest token after the target's first t, never at t = 0."""
    m, source, target = model(), ids(2, 5), ids(2, 7)
    own = torch.tensor(places).view(2, 7)
    first = m.logits(m(source, target).hidden)
    mixed = target.clone()
    for b, t in itertools.product(range(2), range(1, 7)):
        if own[b, t]:
            mixed[b, t] = first[b, t - 1].argmax()
    assert (mixed != target).sum() > 0 or own[:, 1:].sum() < 3
    found, wanted = m(source, target, own=own).hidden, m(source, mixed).hidden
    torch.testing.assert_close(found, wanted)
    up, parameters = torch.randn_like(found), list(m.parameters())
    ours, theirs = (torch.autograd.grad(hidden, parameters, up) for hidden in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_a_padding_token_that_the_model_writes_is_no_padding() -> None:
    """In training, whose layers see no padding, what it reads there and later is what it reads in decoding."""
    m, source, target = model(dropout=0.0), ids(2, 5), ids(2, 7)
    target[1, 5:] = PAD
    written = ids(2, 7, seed=1)
    written[:, 3] = PAD
    own = torch.zeros(2, 7, dtype=torch.bool)
    own[:, 3] = True
    with patch.object(m, "_written", return_value=written):
        found = m.train()(source, target, own=own).hidden
    state, wanted = m.eval().start(m.encode(source)), []
    for ids_ in torch.where(own, written, target).T:
        hidden, state = m.step(ids_, state)
        wanted.append(hidden)
    torch.testing.assert_close(found[target != PAD], torch.stack(wanted, dim=1)[target != PAD], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_position": "post"},
        {"positions": "rotary", "norm": "rms", "activation": "swiglu"},
        {"positions": "learned", "max_positions": 9, "score": "additive"},
        {"self_attention": "window", "window": 2},
        {"self_attention": "linear"},
    ],
    ids=str,
)
def test_training_does_not_see_padding(options: dict[str, object]) -> None:
    """The gradient of a padded batch, of hidden states and of attention, is the sum of its sentences' alone."""
    m = model(**{"dropout": 0.0, "heads": 1, **options}).train()
    lengths = ((5, 7), (3, 2), (1, 4))
    source, target, up = ids(3, 5), ids(3, 7), torch.randn(3, 7, 22)
    for row, (s, t) in enumerate(lengths):
        source[row, s:], target[row, t:] = PAD, PAD

    def gradients(rows: slice, s: int, t: int) -> tuple[torch.Tensor, ...]:
        decoded = m(source[rows, :s], target[rows, :t], attention=True)
        assert decoded.attention is not None
        real = (target[rows, :t] != PAD)[:, None, :, None]
        total = (decoded.hidden * up[rows, :t] * real[:, 0]).sum()
        for weights in decoded.attention:
            total = total + (weights.square() * real).sum()
        return torch.autograd.grad(total, list(m.parameters()), materialize_grads=True)

    alone = [gradients(slice(row, row + 1), s, t) for row, (s, t) in enumerate(lengths)]
    for found, *parts in zip(gradients(slice(0, 3), 5, 7), *alone, strict=True):
        torch.testing.assert_close(found, torch.stack(parts).sum(0), atol=2e-5, rtol=1e-4)


def test_none_of_its_own_is_teacher_forcing() -> None:
    m, source, target = model(), ids(2, 5), ids(2, 7)
    own = torch.zeros(2, 7, dtype=torch.bool)
    assert torch.equal(m(source, target, own=own).hidden, m(source, target).hidden)


def test_attention_that_was_asked_for_is_that_of_each_layer_and_head() -> None:
    m, source, target = model(), ids(2, 5), ids(2, 7)
    source[1, 3:] = 0
    seen = m(source, target, attention=True).attention
    assert seen is not None
    assert [weights.shape for weights in seen] == [(2, 11, 7, 5)] * 2
    for weights in seen:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 11, 7))
        assert weights[1, ..., 3:].count_nonzero() == 0
    assert m(source, target).attention is None


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


@pytest.mark.parametrize(("probability", "scale"), [(0.5, 2), (0.1, 256 / 230)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_is_added(precision: torch.dtype, probability: float, scale: float) -> None:
    """To x what it leaves of y, and the gradient of y is left out where y was; both are rounded once."""
    torch.manual_seed(1)
    x, y = (torch.randn(17, 11, dtype=precision, requires_grad=True) for _ in range(2))
    towards = torch.randn(17, 11).to(precision)
    summed = Dropout(probability).add(x, y)
    of_x, of_y = torch.autograd.grad(summed, (x, y), towards)
    kept = of_y != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(summed.detach(), (x.detach().float() + scale * y.detach().float() * kept).to(precision))
    assert torch.equal(of_x, towards)
    torch.testing.assert_close(of_y, (scale * towards.float() * kept).to(precision), atol=0, rtol=1e-6)
    assert torch.equal(Dropout(probability).eval().add(x, y), x + y)


def test_dropout_is_rounded_once() -> None:
    """In bfloat16 a scale of 1.11304 would be 1.10938 by itself."""
    y = Dropout(0.1)(torch.full((1000,), 100, dtype=torch.bfloat16))
    assert y.unique().tolist() == [0, torch.tensor(100 * 256 / 230).bfloat16().item()]

"""The recurrent model: shapes, padding, causality, its equation, and tokens of its own in training."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from transformer_mt import config
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.special import BOS

VOCABULARY = 37
KINDS: list[dict[str, Any]] = [
    {},
    {"cell": "lstm", "layers": 2, "score": "dot"},
    {"input_feeding": False, "score": "general"},
    {"attention": "local", "score": "scaled_dot", "window": 2},
    {"attention": "hard", "score": "concat"},
    {"attention": "none"},
]
kinds = pytest.mark.parametrize("options", KINDS, ids=str)


def model(**options: object) -> Recurrent:
    torch.manual_seed(1)
    small = {"width": 22, "dropout": 0.1, **options, "kind": "recurrent"}
    m = Recurrent(config.Recurrent.model_validate(small), VOCABULARY).eval()
    with torch.no_grad():
        m.projection.mul_(3)  # distributions that are less flat
    return m


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(4, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@kinds
def test_shapes_with_distinct_primes(options: dict[str, Any]) -> None:
    m = model(**options)
    source, target = ids(3, 5), ids(3, 7)
    decoded = m(source, target, attention=True)
    assert decoded.hidden.shape == (3, 7, 22)
    if options.get("attention") == "none":
        assert decoded.attention is None
    else:
        assert decoded.attention is not None
        assert [weights.shape for weights in decoded.attention] == [(3, 1, 7, 5)]
        if options.get("attention") != "local":  # whose weights are those of a distribution times a Gaussian
            torch.testing.assert_close(decoded.attention[0].sum(-1), torch.ones(3, 1, 7))
    hidden, state = m.step(ids(3), m.start(m.encode(source)))
    assert m.logits(hidden).shape == (3, VOCABULARY)
    state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    assert m.step(ids(6), state)[0].shape == (6, 22)


@kinds
def test_it_is_causal_and_all_of_it_learns(options: dict[str, Any]) -> None:
    m, source, target = model(**options), ids(2, 5), ids(2, 7)
    hidden = m(source, target).hidden
    changed = target.clone()
    changed[:, 4] = 4 + (changed[:, 4] - 3) % (VOCABULARY - 4)
    after = m(source, changed).hidden
    torch.testing.assert_close(after[:, :4], hidden[:, :4])
    assert (after[:, 4:] != hidden[:, 4:]).any()
    decoded = m.train()(source, target)
    drawn = [x.sum() for x in (decoded.choice, decoded.baseline) if x is not None]
    assert len(drawn) == (2 if options.get("attention") == "hard" else 0)
    sum([decoded.hidden.sum(), *drawn]).backward()
    unused = [name for name, p in m.named_parameters() if p.grad is None]
    assert unused == []


@kinds
def test_padding_never_changes_anything(options: dict[str, Any]) -> None:
    m, source, target = model(**options), ids(2, 6), ids(2, 5)
    alone = m(source, target, attention=True)
    for extra in (1, 40):
        padded = m(torch.nn.functional.pad(source, (0, extra)), target, attention=True)
        torch.testing.assert_close(padded.hidden, alone.hidden)
        if alone.attention is not None:
            assert padded.attention[0][..., 6:].count_nonzero() == 0
            torch.testing.assert_close(padded.attention[0][..., :6], alone.attention[0])


@kinds
def test_training_and_evaluation_are_one_without_chance(options: dict[str, Any]) -> None:
    """Without dropout, that is, and of hard attention, which draws in training, only that it does."""
    m, source, target = model(dropout=0.0, **options), ids(2, 6), ids(2, 5)
    source[1, 4:] = 0
    wanted, found = m(source, target).hidden, m.train()(source, target).hidden
    assert torch.allclose(found, wanted, atol=1e-6) == (options.get("attention") != "hard")


@torch.no_grad()
def test_a_step_by_its_equations() -> None:
    """One layer of GRU with dot attention and input feeding, a sentence of two words, by products alone."""
    m = model(score="dot", dropout=0.0)
    source, target = ids(1, 2), torch.tensor([[BOS, 9, 5]])
    width, embedding = 22, m.source_embedding.weight * 22**0.5

    def gru(cell: Any, x: Tensor, h: Tensor) -> Tensor:
        wx, uh = cell.inputs.weight @ x + cell.inputs.bias, cell.recurrence.weight @ h + cell.recurrence.bias
        (wr, wz, wn), (ur, uz, un) = wx.chunk(3), uh.chunk(3)
        r, z = torch.sigmoid(wr + ur), torch.sigmoid(wz + uz)
        return (1 - z) * torch.tanh(wn + r * un) + z * h

    x = embedding[source[0]]
    nothing = torch.zeros(width // 2)
    first_ahead = gru(m.forwards[0], x[0], nothing)
    ahead = [first_ahead, gru(m.forwards[0], x[1], first_ahead)]
    second_back = gru(m.backwards[0], x[1], nothing)
    back = [gru(m.backwards[0], x[0], second_back), second_back]
    memory = torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])
    state = torch.tanh(m.first.weight @ torch.cat((ahead[1], back[0])) + m.first.bias)
    fed = torch.zeros(width)
    for t, token in enumerate(target[0]):
        state = gru(m.decoder[0], torch.cat((embedding[token], fed)), state)
        context = torch.softmax(memory @ state, 0) @ memory
        fed = torch.tanh(m.combine.weight @ torch.cat((context, state)) + m.combine.bias)
        torch.testing.assert_close(m(source, target).hidden[0, t], fed)


def test_without_attention_the_decoder_sees_the_last_states_alone() -> None:
    """Of the source, the memory has one vector: what both directions made of all of it."""
    m, source = model(attention="none"), ids(2, 9)
    memory = m.encode(source)
    assert memory.source.value.shape == (2, 1, 22)
    assert memory.bias.tolist() == [[[0.0]], [[0.0]]]
    changed = source.clone()
    changed[:, 4] = 4 + (changed[:, 4] - 3) % (VOCABULARY - 4)
    assert not torch.allclose(m.encode(changed).source.value, memory.source.value)


def test_lstm_and_two_layers_are_told_where_the_encoder_ended() -> None:
    """A first state for each decoder layer, h and c of an LSTM."""
    memory = model(cell="lstm", layers=3).encode(ids(2, 5))
    assert [state.shape for state in memory.states] == [(2, 44)] * 3
    assert all(state.abs().max() <= 1 for state in memory.states)


# Tokens of its own


@torch.no_grad()
def fed_by_hand(m: Recurrent, source: Tensor, target_in: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Token by token, with passes over all that was read so far: what was read [B, T], and the last pass's hidden."""
    read = target_in.clone()
    for t in range(1, target_in.shape[1]):
        likeliest = m.logits(m(source, read[:, :t]).hidden[:, -1]).argmax(-1)
        read[:, t] = torch.where(own[:, t], likeliest, target_in[:, t])
    return read, m(source, read).hidden


@kinds
def test_all_of_its_own_is_feeding_back_the_likeliest_token(options: dict[str, Any]) -> None:
    m, source, target = model(**options), ids(3, 5), ids(3, 7)
    target[:, 0] = BOS
    own = torch.ones(3, 7, dtype=torch.bool)
    read, wanted = fed_by_hand(m, source, target, own)
    assert (read[:, 1:] != target[:, 1:]).any()
    assert (read[:, 0] == BOS).all()
    torch.testing.assert_close(m(source, target, own=own).hidden, wanted)


@settings(max_examples=15)
@given(places=st.lists(st.booleans(), min_size=14, max_size=14))
def test_some_of_its_own(places: list[bool]) -> None:
    m, source, target = model(), ids(2, 5), ids(2, 7)
    own = torch.tensor(places).view(2, 7)
    torch.testing.assert_close(m(source, target, own=own).hidden, fed_by_hand(m, source, target, own)[1])


@kinds
def test_none_of_its_own_is_teacher_forcing(options: dict[str, Any]) -> None:
    m, source, target = model(**options), ids(2, 5), ids(2, 7)
    own = torch.zeros(2, 7, dtype=torch.bool)
    torch.testing.assert_close(m(source, target, own=own).hidden, m(source, target).hidden)


def test_a_token_of_its_own_hands_no_gradient_back() -> None:
    """The gradient is that of a pass that was given the same tokens."""
    m, source, target = model(), ids(2, 5), ids(2, 7)
    own = torch.ones(2, 7, dtype=torch.bool)
    read, _ = fed_by_hand(m, source, target, own)
    parameters = list(m.parameters())
    up = torch.randn(2, 7, 22)
    ours, theirs = (
        torch.autograd.grad(hidden, parameters, up)
        for hidden in (m(source, target, own=own).hidden, m(source, read).hidden)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("lstm", 4)])
def test_parameter_count_by_hand(cell: str, gates: int) -> None:
    """V·D; a cell of I inputs: gates · (I·D + D² + 2D); W of first states and of the output; W, U, v of the score."""
    d, v, half, layers = 22, VOCABULARY, 11, 2
    encoder = 2 * layers * gates * (d * half + half * half + 2 * half)
    decoder = gates * (2 * d * d + d * d + 2 * d) + gates * (d * d + d * d + 2 * d)
    parts = gates - 2 if cell == "lstm" else 1
    first = (d + 1) * parts * layers * d
    combine, score = (2 * d + 1) * d, 2 * d * d + d
    count = sum(p.numel() for p in model(cell=cell, layers=layers).parameters())
    assert count == v * d + encoder + decoder + first + combine + score


def test_recurrent_weights_begin_orthogonal() -> None:
    """Each gate's: U Uᵀ = 1, so that a state neither grows nor fades at first."""
    m = model(layers=2)
    for cell in itertools.chain(m.forwards, m.backwards, m.decoder):
        assert isinstance(cell, torch.nn.Module)
        weight = cell.get_submodule("recurrence").get_parameter("weight")
        for gate in weight.view(-1, weight.shape[1], weight.shape[1]):
            torch.testing.assert_close(gate @ gate.T, torch.eye(weight.shape[1]), atol=1e-5, rtol=0)

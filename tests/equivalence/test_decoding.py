"""What must be equal in decoding: cached and teacher-forced, beam 1 and greedy, wide beam and exhaustive search."""

import itertools
import math
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

from transformer_mt import config
from transformer_mt.decoding.beam import beam_search
from transformer_mt.decoding.greedy import greedy
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.packing import packed
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import BOS, EOS

OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "activation": "gelu"},
    {"positions": "rotary", "norm": "rms", "activation": "swiglu"},
    {"positions": "learned"},
    {"positions": "none", "score": "dot"},
    {"score": "general"},
    {"score": "additive", "self_attention": "window", "window": 3},
    {"score": "concat", "self_attention": "linear"},
    {"self_attention": "window", "window": 20, "positions": "rotary"},
    {"self_attention": "linear", "positions": "rotary"},
]
RECURRENT: list[dict[str, Any]] = [
    {"kind": "recurrent"},
    {"kind": "recurrent", "cell": "lstm", "layers": 2, "score": "dot"},
    {"kind": "recurrent", "cell": "lstm", "score": "scaled_dot", "input_feeding": False},
    {"kind": "recurrent", "layers": 2, "score": "general", "attention": "local", "window": 2},
    {"kind": "recurrent", "score": "concat", "attention": "hard"},
    {"kind": "recurrent", "attention": "none"},
]


def model(vocabulary: int = 53, scale: float = 1.0, **options: object) -> EncoderDecoder:
    torch.manual_seed(2)
    m: EncoderDecoder
    if options.get("kind") == "recurrent":
        m = Recurrent(config.Recurrent.model_validate({"width": 44, **options}), vocabulary).eval()
    else:
        small = {"size": "tiny", "layers": 2, "width": 44, "heads": 11, "feed_forward": 29, **options}
        m = Transformer(config.Transformer.model_validate(small), vocabulary).eval()
    with torch.no_grad():
        m.projection.mul_(scale)  # greater weights make distributions less flat
        for name, parameter in m.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)  # it is 0 before training
    return m


def sources(*lengths: int, vocabulary: int = 53) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    rows = [
        torch.cat((torch.randint(4, vocabulary, (n - 1,), generator=generator), torch.tensor([EOS]))) for n in lengths
    ]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


@pytest.mark.parametrize("options", [*OPTIONS, *RECURRENT], ids=str)
@torch.inference_mode()
def test_cached_steps_equal_teacher_forcing(options: dict[str, Any]) -> None:
    """Over a boundary of the cache's blocks of 16, and with rows reordered and dropped on the way."""
    m, source = model(**options), sources(5, 19, 3)
    target = torch.randint(4, 53, (3, 37))
    target[:, 0] = BOS
    forced = m.logits(m(source, target).hidden)
    fast = packed(m, torch.float32)
    state, order = fast.start(fast.encode(source)), torch.arange(3)
    for t in range(37):
        if t == 7:
            rows = torch.tensor([2, 0, 1])
        elif t == 20:
            rows = torch.tensor([0, 2])
        else:
            rows = torch.arange(len(order))
        state.select(rows[:, None])
        order = order[rows]
        hidden, state = fast.step(target[order, t], state)
        torch.testing.assert_close(fast.logits(hidden), forced[order, t], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"self_attention": "window", "window": 3}, {"self_attention": "linear"}, *RECURRENT], ids=str
)
@torch.inference_mode()
def test_rows_of_a_beam_equal_teacher_forcing(options: dict[str, Any]) -> None:
    """One row a sentence, then three that are reordered, repeated and dropped among themselves; sentences leave."""
    beam, source = 3, sources(5, 19, 3)
    m = model(**options)
    fast, draw = packed(m, torch.float32), torch.Generator().manual_seed(3)
    state = fast.start(fast.encode(source))
    sentences, width, written = torch.arange(3), 1, torch.full((3, 1), BOS)
    for t in range(23):
        hidden, state = fast.step(written[:, -1], state)
        forced = m.logits(m(source[sentences.repeat_interleave(width)], written).hidden[:, -1])
        torch.testing.assert_close(fast.logits(hidden), forced, atol=2e-5, rtol=1e-5)
        kept = torch.tensor([2, 0]) if t == 9 else torch.arange(len(sentences))
        rows = kept[:, None] * width + torch.randint(width, (len(kept), beam), generator=draw)
        state.select(rows)
        sentences, width = sentences[kept], beam
        tokens = torch.randint(4, 53, (rows.numel(), 1), generator=draw)
        written = torch.cat((written[rows.flatten()], tokens), dim=1)


@pytest.mark.parametrize("options", [{}, *RECURRENT], ids=str)
@torch.inference_mode()
def test_beam_one_is_greedy(options: dict[str, Any]) -> None:
    m, source = model(scale=3, **options), sources(5, 11, 3, 17, 2)
    for by_greedy, (by_beam, *others) in zip(greedy(m, source), beam_search(m, source, 1), strict=True):
        assert others == []
        assert by_beam.ids == by_greedy.ids
        assert by_beam.score == pytest.approx(by_greedy.score, abs=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("options", [{}, *RECURRENT[:2]], ids=str)
@torch.inference_mode()
def test_greedy_finds_the_same_without_scores(
    options: dict[str, Any], precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so many words that a screen looks at spans of them, on any CPU."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    m, source = packed(model(vocabulary=333, scale=3, **options), precision), sources(5, 11, 3, 17, 2, vocabulary=333)
    assert (m.screen is not None) == (precision == torch.float32)
    scored, bare = greedy(m, source), greedy(m, source, scored=False)
    assert [h.ids for h in bare] == [h.ids for h in scored]
    assert all(math.isnan(h.score) and math.isnan(h.log_probability) for h in bare)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@torch.inference_mode()
def test_a_wide_beam_is_exhaustive_search(alpha: float) -> None:
    """Two words, at most four tokens: all 30 translations are scored by teacher forcing and ranked."""
    vocabulary, longest = 6, 4
    m, source = model(vocabulary, scale=2), torch.tensor([[4, 5, 4, EOS]])
    with torch.no_grad():
        m.projection[:3] = -100 * m.projection[3:4].abs()  # padding, unknown and begin are never likely

    def log_p(tokens: tuple[int, ...]) -> float:
        logits = m.logits(m(source, torch.tensor([[BOS, *tokens[:-1]]])).hidden)[0]
        logits[0, EOS] = float("-inf")
        logits[:, :3] = float("-inf")
        return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum())

    every = [(*w, EOS) for n in range(1, longest) for w in itertools.product((4, 5), repeat=n)]
    every += list(itertools.product((4, 5), repeat=longest))
    ranked = sorted(((log_p(t) / len(t) ** alpha, t) for t in every), reverse=True)

    class Short:
        """The model with its longest translation, and impossible specials."""

        def __getattr__(self, name: str) -> Any:
            return getattr(m, name)

        def step(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            hidden, state = m.step(ids, state)
            if state.length > longest:
                raise AssertionError("searched on past the longest translation")
            return hidden, state

        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = m.logits(hidden)
            logits[:, :3] = float("-inf")
            return logits

    with patch("transformer_mt.decoding.beam.length_limits", return_value=[longest]):
        found = beam_search(Short(), source, beam=64, length_penalty=alpha, patience=10)[0]
    assert len(found) == len(every) == 30
    for hypothesis, (score, tokens) in zip(found, ranked, strict=True):
        assert hypothesis.ids == [t for t in tokens if t != EOS]
        assert hypothesis.score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize(
    "options",
    [
        *({"heads": heads} for heads in (1, 2, 11, 22)),  # of widths 44, 22, 4 and 2
        {"width": 64, "feed_forward": 80, "heads": 4},  # whose products have no special kernel for the last columns
        {"norm_position": "post", "activation": "gelu"},
        {"positions": "rotary", "norm": "rms", "activation": "swiglu"},
        {"self_attention": "window", "window": 3},
        *({"self_attention": "linear", "heads": heads} for heads in (1, 11)),
        *RECURRENT,
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("precision", "by_sums"), [(torch.float32, True), (torch.float32, False), (torch.int8, True)], ids=str
)
@torch.inference_mode()
def test_any_batch_gives_what_a_sentence_gives_alone(
    precision: torch.dtype, by_sums: bool, options: dict[str, Any], beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit, with neighbours of all lengths: ids, scores and all; also where a row has no product by sums."""
    if not by_sums:
        monkeypatch.setattr("transformer_mt.model.packing.lone_row", lambda _: None)
    with patch.object(torch.cpu, "_is_vnni_supported", return_value=True):  # greedy search has its screen on any CPU
        m = packed(model(vocabulary=150, scale=3, **options), precision)
    lengths = (3, 7, 2, 16, 17, 40, 5, 31, 4)
    batch = sources(*lengths, vocabulary=150)

    def search(source: torch.Tensor) -> list[object]:
        return list(beam_search(m, source, beam)) if beam > 1 else list(greedy(m, source))

    bare = [h.ids for h in greedy(m, batch, scored=False)]
    together = search(batch)
    for row, n in enumerate(lengths):
        assert search(batch[row : row + 1, :n]) == together[row : row + 1], f"length {n}"
        assert search(F.pad(batch[row : row + 1, :n], (0, 40))) == together[row : row + 1], f"length {n}, padded"
        assert greedy(m, batch[row : row + 1, :n], scored=False)[0].ids == bare[row], f"length {n}, without scores"


@pytest.mark.parametrize("options", [{}, *RECURRENT[:2]], ids=str)
@torch.inference_mode()
def test_scores_equal_teacher_forcing(options: dict[str, Any]) -> None:
    """Σ log p of what beam search found, from one pass over the whole hypothesis."""
    m, source = model(scale=3, **options), sources(5, 11)
    for row, hypotheses in enumerate(beam_search(packed(m, torch.float32), source, 4, length_penalty=0.6)):
        for h in hypotheses:
            limit = 2 * (5, 11)[row] + 10
            tokens = [*h.ids, EOS] if len(h.ids) < limit else h.ids
            logits = m.logits(m(source[row : row + 1], torch.tensor([[BOS, *tokens[:-1]]])).hidden)[0]
            logits[0, EOS] = float("-inf")
            total = float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum())
            assert h.log_probability == pytest.approx(total, abs=1e-4)
            assert h.score == pytest.approx(total / len(tokens) ** 0.6, abs=1e-4)

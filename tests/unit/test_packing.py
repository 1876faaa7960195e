"""A model made ready for decoding gives what the model gives, as exactly as its precision allows."""

from typing import Any

import pytest
import torch

from transformer_mt import config
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.int8 import Int8Linear
from transformer_mt.model.packing import packed
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import BOS, EOS

OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "activation": "gelu"},
    {"positions": "rotary", "norm": "rms", "activation": "swiglu"},
    {"positions": "none", "score": "dot"},
    {"score": "general"},
    {"score": "additive", "self_attention": "window", "window": 3},
    {"score": "concat", "self_attention": "linear"},
    {"self_attention": "window", "window": 20, "positions": "rotary"},
    {"self_attention": "linear", "positions": "rotary"},
    {"kind": "recurrent"},
    {"kind": "recurrent", "cell": "lstm", "layers": 2, "score": "dot"},
    {"kind": "recurrent", "score": "general", "attention": "local", "input_feeding": False},
    {"kind": "recurrent", "attention": "none"},
]
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.int8: 0.15}


def model(**options: Any) -> EncoderDecoder:
    torch.manual_seed(3)
    if options.get("kind") == "recurrent":
        return Recurrent(config.Recurrent.model_validate({"width": 64, **options}), 131).eval()
    settings = {"size": "tiny", "layers": 2, "width": 64, "heads": 4, "feed_forward": 96, **options}
    return Transformer(config.Transformer.model_validate(settings), 131).eval()


SOURCE = torch.tensor([[5, 6, 7, 8, 9, EOS], [10, 11, EOS, 0, 0, 0]])
TARGET = torch.tensor([[BOS, 20, 21, 22], [BOS, 30, 31, 32]])


@pytest.mark.parametrize("precision", CLOSE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.inference_mode()
def test_logits_are_those_of_the_model(options: dict[str, Any], precision: torch.dtype) -> None:
    """Teacher-forced; in units of the deviation of logits, which is about 1 for the Transformer."""
    m = model(**options)
    fast = packed(m, precision)
    wanted, found = m.logits(m(SOURCE, TARGET).hidden), fast.logits(fast(SOURCE, TARGET).hidden).float()
    unit = wanted.std()
    assert unit > 0.01
    torch.testing.assert_close(found / unit, wanted / unit, atol=CLOSE[precision], rtol=0.02)
    assert precision == torch.float32 or not torch.equal(found, wanted)


def test_the_model_stays_as_it_was_and_shares_its_embeddings() -> None:
    m = model()
    before = {name: value.clone() for name, value in m.state_dict().items()}
    fast = packed(m.train(), torch.bfloat16)
    assert m.training
    assert not fast.training
    assert fast.source_embedding.weight is m.source_embedding.weight
    for name, value in m.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == torch.float32


def test_int8_by_hand() -> None:
    """Scales of 2 / 127 and 4 / 127 for x, 1 / 127 for W: 127 · 127, 64 · 127 and so on, scaled back."""
    linear = Int8Linear(torch.tensor([[1.0, 0.0], [0.5, -1.0]]), torch.tensor([10.0, 0.0]), relu=False)
    found = linear(torch.tensor([[2.0, 1.0], [0.0, -4.0]]))
    half = 64 / 127  # 0.5 · 127 rounds to 64, the even number
    wanted = [[12.0, 2 * half - 2 * half], [10.0, 4.0]]
    torch.testing.assert_close(found, torch.tensor(wanted))


@torch.inference_mode()
def test_int8_of_a_row_does_not_depend_on_the_others() -> None:
    torch.manual_seed(1)
    linear = Int8Linear(torch.randn(40, 64), torch.randn(40), relu=True)
    x = torch.randn(9, 64)
    assert torch.equal(linear(x[3:4]), linear(x)[3:4])
    assert (linear(x) >= 0).all()


def test_int8_of_zeros_is_the_bias() -> None:
    linear = Int8Linear(torch.zeros(3, 4), torch.tensor([1.0, 2.0, 3.0]), relu=False)
    assert linear(torch.zeros(2, 4)).tolist() == [[1.0, 2.0, 3.0]] * 2

"""A model made ready for decoding gives what the model gives, as exactly as its precision allows."""

from typing import Any

import pytest
import torch

from transformer_mt.config import Model
from transformer_mt.model.packing import Int8Linear, packed
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import BOS, EOS

OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "activation": "gelu"},
    {"positions": "rotary", "norm": "rms", "activation": "swiglu"},
]
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.int8: 0.1}


def model(**options: Any) -> Transformer:
    torch.manual_seed(3)
    settings = {"size": "tiny", "layers": 2, "width": 64, "heads": 4, "feed_forward": 96, **options}
    return Transformer(Model.model_validate(settings), 131).eval()


SOURCE = torch.tensor([[5, 6, 7, 8, 9, EOS], [10, 11, EOS, 0, 0, 0]])
TARGET = torch.tensor([[BOS, 20, 21, 22], [BOS, 30, 31, 32]])


@pytest.mark.parametrize("precision", CLOSE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.inference_mode()
def test_logits_are_those_of_the_model(options: dict[str, Any], precision: torch.dtype) -> None:
    """Teacher-forced; logits are about 1 in size."""
    m = model(**options)
    fast = packed(m, precision)
    wanted, found = m.logits(m(SOURCE, TARGET)), fast.logits(fast(SOURCE, TARGET)).float()
    assert wanted.std() > 0.5
    torch.testing.assert_close(found, wanted, atol=CLOSE[precision], rtol=0.02)
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

"""Adam does what PyTorch's own does, without what that brings with it."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from transformer_mt.config import Training
from transformer_mt.errors import ArtefactError
from transformer_mt.training.adam import Adam


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 5), nn.LayerNorm(5))


def gradients(m: nn.Module, step: int) -> None:
    """Of a step; in the second the embedding has none."""
    torch.manual_seed(step)
    for parameter in m.parameters():
        parameter.grad = torch.randn_like(parameter)
    if step == 2:
        next(m.parameters()).grad = None


def test_equals_pytorchs_own() -> None:
    """AdamW without a fused kernel, biases and norms without decay; each step has a learning rate of its own."""
    ours, theirs = model(), model()
    adam = Adam(ours, Training(weight_decay=0.1, adam_betas=(0.8, 0.95)))
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() == dim], "weight_decay": decay}
        for dim, decay in ((2, 0.1), (1, 0.0))
    ]
    reference = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-9, foreach=False)
    for step in range(1, 6):
        gradients(ours, step)
        gradients(theirs, step)
        adam.rate = 0.01 * step
        for group in reference.param_groups:
            group["lr"] = 0.01 * step
        adam.step()
        reference.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its)
        for kind, value in reference.state[its].items():
            torch.testing.assert_close(adam.state[mine][kind], value)


def test_the_first_step_by_hand() -> None:
    """Of each weight w with gradient g: m̂ = g, v̂ = g², so that w becomes (1 - η λ) w - η g / (|g| + ε)."""
    linear = nn.Linear(2, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[2.0, -3.0]]))
        linear.bias.fill_(1.0)
    adam = Adam(linear, Training(weight_decay=0.5))
    linear.weight.grad, linear.bias.grad = torch.tensor([[4.0, -0.5]]), torch.tensor([1e-9])
    adam.rate = 0.1
    adam.step()
    assert linear.weight.tolist()[0] == pytest.approx([0.95 * 2 - 0.1, 0.95 * -3 + 0.1])
    assert linear.bias.item() == pytest.approx(1 - 0.1 * 0.5)  # no decay; g is as small as ε


def test_state_that_is_put_back_goes_on_as_before() -> None:
    first, second = model(), model()
    adam, other = (Adam(m, Training()) for m in (first, second))
    adam.rate = other.rate = 0.1
    gradients(first, 1)
    adam.step()
    second.load_state_dict(first.state_dict())
    other.load({name: tensor.clone() for name, tensor in adam.tensors().items()}, "step-1")
    for m, optimizer in ((first, adam), (second, other)):
        gradients(m, 2)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert "exp_avg.1.weight" in adam.tensors()
    for name, size in (("exp_avg.9.weight", 30), ("exp_avg.1.weight", 7)):
        with pytest.raises(ArtefactError, match="does not fit the model"):
            other.load({name: torch.zeros(size)}, "step-1")


def test_pytorchs_compiler_is_not_imported() -> None:
    """It would take 66 MB and a second."""
    program = """
import sys, torch
from transformer_mt.config import Training
from transformer_mt.training.adam import Adam
from transformer_mt.training.trainer import Trainer
linear = torch.nn.Linear(2, 2)
adam = Adam(linear, Training())
linear(torch.ones(2)).sum().backward()
adam.step()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

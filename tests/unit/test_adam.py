"""Adam does what PyTorch's own does, without what that brings with it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.parametrize("fused", [False, True])
def test_equals_pytorchs_own(fused: bool) -> None:
    """To the bit with a fused kernel; biases and norms have no decay, each step has a learning rate of its own."""
    ours, theirs = model(), model()
    adam = Adam(ours, Training(weight_decay=0.1, adam_betas=(0.8, 0.95)))
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() == dim], "weight_decay": decay}
        for dim, decay in ((2, 0.1), (1, 0.0))
    ]
    reference = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-9, fused=fused, foreach=False)
    for step in range(1, 6):
        gradients(ours, step)
        gradients(theirs, step)
        adam.rate = 0.01 * step
        for group in reference.param_groups:
            group["lr"] = 0.01 * step
        adam.step()
        reference.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        for a, b in zip((mine, *adam.state[mine].values()), (its, *reference.state[its].values()), strict=True):
            assert torch.equal(a, b) if fused else torch.allclose(a, b, rtol=1e-5, atol=1e-7)


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


def test_training_does_not_import_pytorchs_compiler(toy_config: Callable[..., Path]) -> None:
    """It would take 66 MB and a second."""
    config = toy_config(training={"max_steps": 2})
    program = f"""
import sys
from transformer_mt.__main__ import run
assert run(["train", {str(config)!r}]) == 0
assert "torch.optim" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (config.parent / "run" / "metrics.jsonl").exists()

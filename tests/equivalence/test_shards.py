"""Weights in memory that processes share become what one process would make of the sum of their gradients."""

import os
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn

from transformer_mt.config import Training
from transformer_mt.training.adam import Adam
from transformer_mt.training.distributed import Group
from transformer_mt.training.shards import Shards, shards

STEPS, MOST = 4, 1.5  # of which clipping to a norm leaves some steps as they are


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(30, 6), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 40, bias=False))


def gradients(parameters: list[nn.Parameter], step: int, rank: int) -> None:
    """Of some process at some step; the last process has none of the first parameter, as of an empty share."""
    chance = torch.Generator().manual_seed(1000 * step + rank)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=chance) * 0.02 * step
        parameter.grad = None if (rank, number) == (1, 0) else gradient


def work(rank: int, size: int, folder: str) -> None:
    """What each process does: half of the steps before it shares, as a run that is resumed has done some."""
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(size)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    group, m = Group(rank, size, torch.device("cpu")), model(seed=rank)
    optimizer = Adam(m, Training(weight_decay=0.1))
    if group.leads:  # the others get all from it
        m.load_state_dict(torch.load(f"{folder}/weights"))
        optimizer.load(torch.load(f"{folder}/optimizer"), "optimizer")
    shared = shards(group, m, optimizer)
    assert shared is not None
    norms = [take(shared, m, optimizer, step, rank) for step in range(3, STEPS + 1)]
    state = [[value.clone() for value in optimizer.state[p].values()] for p in m.parameters()]
    torch.save((norms, [p.detach().clone() for p in m.parameters()], state), f"{folder}/{rank}")
    group.meet()
    dist.destroy_process_group()


def take(shared: Shards, m: nn.Module, optimizer: Adam, step: int, rank: int) -> float:
    gradients(list(m.parameters()), step, rank)
    norm = shared.clip(MOST)
    optimizer.rate = 0.01
    optimizer.step()
    m.zero_grad()
    shared.group.meet()
    return norm


@pytest.mark.parametrize("size", [2, 5])
def test_processes_update_what_one_would(size: int, tmp_path: Path) -> None:
    """Norms, weights and the optimizer's state are PyTorch's own, also where a process has no parameter to update."""
    m, norms = model(seed=7), []
    parameters, settings = list(m.parameters()), Training(weight_decay=0.1)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=settings.adam_betas, eps=1e-9)
    for step in range(1, STEPS + 1):
        if step == 3:
            torch.save(m.state_dict(), tmp_path / "weights")
            state = {f"{k}.{name}": x for name, p in m.named_parameters() for k, x in optimizer.state[p].items()}
            torch.save(state, tmp_path / "optimizer")
        total = [torch.zeros_like(p) for p in parameters]
        for rank in range(size):
            gradients(parameters, step, rank)
            for sum_, parameter in zip(total, parameters, strict=True):
                sum_ += 0 if parameter.grad is None else parameter.grad
        for parameter, sum_ in zip(parameters, total, strict=True):
            parameter.grad = sum_
        norms.append(float(nn.utils.clip_grad_norm_(parameters, MOST)))
        optimizer.step()
    torch.multiprocessing.spawn(work, (size, str(tmp_path)), nprocs=size)  # type: ignore[attr-defined, no-untyped-call]
    assert min(norms) < MOST < max(norms)
    for rank in range(size):
        found, weights, state = torch.load(tmp_path / str(rank))
        assert found == pytest.approx(norms[2:], rel=1e-6)
        for ours, theirs, moments in zip(weights, parameters, state, strict=True):
            torch.testing.assert_close(ours, theirs.detach())
            for mine, kind in zip(moments, ("step", "exp_avg", "exp_avg_sq"), strict=True):
                torch.testing.assert_close(mine, optimizer.state[theirs][kind])


def refused(rank: int, size: int, folder: str) -> None:
    """One process may not open what the leader has made; or the system has no such memory."""
    os.environ["LOCAL_WORLD_SIZE"] = str(size)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    group = Group(rank, size, torch.device("cpu"))
    with patch("torch.from_file", side_effect=RuntimeError) if rank == 1 else nullcontext():
        assert group.memory(10) is None
    with patch("os.memfd_create", side_effect=OSError):
        assert group.memory(10) is None
    memory = group.memory(10)
    assert memory is not None
    memory[rank] = rank + 1
    group.meet()
    assert memory.tolist() == [1, 2] + 8 * [0]
    dist.destroy_process_group()


def test_memory_is_shared_by_all_or_none(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(refused, (2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]


def test_one_process_and_several_machines_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to gain for the one, and no memory for the others."""
    cpu = torch.device("cpu")
    assert Group().memory(10) is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert Group(0, 2, cpu).memory(10) is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Group(0, 2, torch.device("cuda")).memory(10) is None

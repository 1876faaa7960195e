"""One set of weights for all processes of a machine, each of which updates its part of them.

Otherwise every process would sum all gradients, by way of sockets, and update all weights for itself. The optimizer's
state is divided as in ZeRO, stage 1 (Rajbhandari et al. 2020); memory that all see takes the place of messages.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor, nn

from transformer_mt.training.adam import Adam
from transformer_mt.training.distributed import Group


class Shards:
    """The weights of a model and their optimizer's state, moved into memory that the processes of a group share.

    What the leader has of both is what all have then.
    """

    def __init__(self, group: Group, model: nn.Module, optimizer: Adam, memory: Tensor) -> None:
        """The memory, see :func:`shards`, has a row for each process' gradient, weights and two moments; then steps."""
        self.group, self.parameters = group, list(model.parameters())
        sizes = [parameter.numel() for parameter in self.parameters]
        ends = list(accumulate(sizes))
        table = memory[: -len(sizes)].view(-1, ends[-1])
        self.gradients, (weights, *moments), steps = table[:-3], table[-3:], memory[-len(sizes) :]
        for index, (parameter, end) in enumerate(zip(self.parameters, ends, strict=True)):
            weight, *state = (x[end - sizes[index] : end].view_as(parameter) for x in (weights, *moments))
            views = dict(zip(("step", "exp_avg", "exp_avg_sq"), (steps[index], *state), strict=True))
            if group.leads:
                weight.copy_(parameter.detach())
                for name, value in optimizer.state[parameter].items():
                    views[name].copy_(value)
            parameter.data = weight
            optimizer.state[parameter].update(views)
        group.meet()
        # Parameters are whole, in order, and belong to the process in whose part of all numbers their middle is.
        owners = [(2 * end - size) * group.size // (2 * ends[-1]) for end, size in zip(ends, sizes, strict=True)]
        self._own = [p for p, owner in zip(self.parameters, owners, strict=True) if owner == group.rank]
        before = sum(size for size, owner in zip(sizes, owners, strict=True) if owner < group.rank)
        self._part = slice(before, before + sum(parameter.numel() for parameter in self._own))

    def clip(self, most: float) -> float:
        """Leave the sum of all processes' gradients in the parameters that are updated here, and none in others.

        Its norm, of all parameters, is returned; what is left is scaled down where that is more than ``most``.
        """
        # There is no gradient of an empty share.
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.parameters]
        torch.cat(parts, out=self.gradients[self.group.rank])
        self.group.meet()
        total = self.gradients[:, self._part].sum(0)
        square = float(torch.linalg.vector_norm(total)) ** 2
        norm = math.sqrt(self.group.sum([square])[0])
        if norm > most:
            total *= most / norm
        for parameter in self.parameters:
            parameter.grad = None
        for parameter, part in zip(self._own, torch.split(total, [p.numel() for p in self._own]), strict=True):
            parameter.grad = part.view_as(parameter)
        return norm


def shards(group: Group, model: nn.Module, optimizer: Adam) -> Shards | None:
    """Let a group share weights, if it is more than one process on one machine."""
    parameters = list(model.parameters())
    numbers = sum(parameter.numel() for parameter in parameters)
    memory = group.memory((group.size + 3) * numbers + len(parameters))
    return None if memory is None else Shards(group, model, optimizer, memory)

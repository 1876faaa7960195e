"""Adam with weight decay, by PyTorch's fused kernel.

``torch.optim.AdamW`` calls the same kernel, but to make one imports PyTorch's compiler: 66 MB and a second.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transformer_mt.config import Training
from transformer_mt.errors import ArtefactError

_EPSILON = 1e-9  # Vaswani et al. 2017, section 5.3


class Adam:
    """Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).

    At the t-th gradient g of a weight w, with the learning rate η and the decay λ (0 for vectors, such as biases)::

        m = β₁ m + (1 - β₁) g      v = β₂ v + (1 - β₂) g²
        w = (1 - η λ) w - η m̂ / (√v̂ + ε)    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ)

    ``state`` holds t, m and v of each parameter by PyTorch's names, from its first gradient on; ``rate`` is η.
    """

    def __init__(self, model: nn.Module, settings: Training) -> None:
        self.rate, self._betas, self._decay = 0.0, settings.adam_betas, settings.weight_decay
        self._parameters = dict(model.named_parameters())
        self.state: dict[Tensor, dict[str, Tensor]] = {parameter: {} for parameter in self._parameters.values()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All parameters, as GradScaler asks for them."""
        return [{"params": list(self.state)}]

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient."""
        parameters = [parameter for parameter in self.state if parameter.grad is not None]
        self._update([parameter for parameter in parameters if parameter.dim() > 1], self._decay)
        self._update([parameter for parameter in parameters if parameter.dim() <= 1], 0.0)

    def _update(self, parameters: list[Tensor], decay: float) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {kind: parameter.new_zeros(shape) for kind, shape in _shapes(parameter).items()}
        states = [self.state[parameter] for parameter in parameters]
        steps, means, squares = ([state[kind] for state in states] for kind in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            means,
            squares,
            [],
            steps,
            lr=self.rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, such as ``exp_avg.encoder.0.…``."""
        return {
            f"{kind}.{name}": value
            for name, parameter in self._parameters.items()
            for kind, value in self.state[parameter].items()
        }

    def load(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Put back what :meth:`tensors` gave. Raises ArtefactError when it does not fit."""
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            parameter = self._parameters.get(name)
            if parameter is None or value.shape != _shapes(parameter).get(kind):
                raise ArtefactError(f"{where}: the optimizer's {key} does not fit the model; choose another checkpoint")
            self.state[parameter][kind] = value.to(parameter.device)


def _shapes(parameter: Tensor) -> dict[str, torch.Size]:
    """Of what is kept for a parameter."""
    return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}

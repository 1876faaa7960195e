"""What a model makes of a target that it is given."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Decoded:
    """A teacher-forced pass: hidden [B, T, D], not yet projected to V, and what else was asked for.

    ``attention`` is what each position attended to in the source, [B, H, T, S] for each of L layers; None for a model
    without attention. Hard attention that was sampled gives the ``choice`` [B, T], log p of the position that was
    taken, 0 where the mean was read, and the ``baseline`` [B, T], what was expected to come of a choice; ``told`` says
    that later positions know of it.
    """

    hidden: Tensor
    attention: list[Tensor] | None = None
    choice: Tensor | None = None
    baseline: Tensor | None = None
    told: bool = False


def alignment_layer(layers: int) -> int:
    """The layer, from 0, whose attention is nearest to an alignment as a rule.

    It is the last but one of six (Garg et al. 2019), but the last of three on this project's corpus.
    """
    return layers - 2 if layers > 3 else layers - 1

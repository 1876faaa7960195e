"""What search needs of a model, and what it gives."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from transformer_mt.special import PAD


class Decodable(Protocol):
    """The contract of decoding; the state has ``select(rows)``, see :class:`transformer_mt.model.state.State`."""

    @property
    def position_limit(self) -> int | None:
        """The longest sequence that the model has positions for; None when there is no limit."""

    def encode(self, source: Tensor) -> Any:
        """Source ids [B, S] → memory."""

    def start(self, memory: Any) -> Any:
        """Memory → the state of B rows, one a sentence."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Ids [R] of the last tokens → hidden [R, D] of the next ones, and the state after them."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden [R, D] → logits [R, V]."""

    def likeliest(self, hidden: Tensor, *, may_end: bool) -> Tensor:
        """Hidden [R, D] → the words [R] of the greatest logits, EOS only if it ``may_end``."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation.

    ``ids`` without begin and end token; ``log_probability`` is Σ log p, of the end token too; ``score`` is that sum
    over length^length_penalty, the end token counted. Both are NaN where search was not asked for them.
    """

    ids: list[int]
    score: float
    log_probability: float


def length_limits(source: Tensor, position_limit: int | None) -> list[int]:
    """The most tokens, end token counted, of the translation of each row of source [B, S]: 2·S + 10, or the limit."""
    limits = [2 * int(n) + 10 for n in (source != PAD).sum(1)]
    return limits if position_limit is None else [min(limit, position_limit) for limit in limits]


def closing_ranks(kept: list[int]) -> list[int]:
    """Rows that stay, ascending, in the order in which the last ones take the places of those that left."""
    count, staying = len(kept), set(kept)
    last = (row for row in kept if row >= count)
    return [row if row in staying else next(last) for row in range(count)]

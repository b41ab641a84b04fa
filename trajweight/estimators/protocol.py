"""What every estimator of the hypergradient is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows


@dataclass(frozen=True, slots=True)
class Estimate:
    """How the outer loss moves with the weights of some rows.

    Attributes:
        rows: The rows; one that was drawn twice stands here twice.
        d: dL_val / dw_i of each, in nats a token. Shape (b,).
        outer_loss: The outer loss over the validation rows that were drawn.
    """

    rows: Rows
    d: Tensor
    outer_loss: float

    @classmethod
    def if_finite(cls, rows: Rows, d: Tensor, outer_loss: float) -> Estimate | None:
        """None where a number of d is not finite, since a head would never recover from it."""
        return cls(rows, d, outer_loss) if bool(d.isfinite().all()) else None


class Running(Protocol):
    """An estimator at work on one inner level."""

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """Make one inner step on weighted rows, and say what it taught.

        Args:
            rows: A batch of training rows, as numbers.
            weights: Of each row. Shape (b,), all above zero.

        Returns:
            An estimate, or None where this step brought none: it was between two estimates, or a
            loss was not finite and it was skipped.
        """

    def state(self) -> dict[str, Any]:
        """What `restore` needs, beside the inner level's own state."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""


class Estimator(Protocol):
    """The knobs of an estimator."""

    def begin(self, inner: InnerLevel) -> Running:
        """Start on an inner level."""

"""A warning, not a method: the penalty's gradient without the copy that is not pulled.

    d_i = lambda l_i(theta) / B    in place of    d_i = lambda (l_i(theta) - l_i(u)) / B

with theta trained on the weighted rows and pulled by validation, and u on the rows alone; see
`trajweight.estimators.penalty`. Without the subtraction a row is pushed down because its loss is
high, not because the pull raised it: a filter by loss in the words of two levels. Published code
does this. It is here so that a benchmark can show what the subtraction is worth; nobody should
train on these weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trajweight.estimators.protocol import Estimate
from trajweight.scorers.grounds import warmed
from trajweight.scorers.searching import searched

if TYPE_CHECKING:
    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows
    from trajweight.scorers.scorer import Needs, Pool, Scored


@dataclass(frozen=True, slots=True)
class LossOnlyPenalty:
    """The engine's search, head and features, with the faulty gradient."""

    name: str = "loss-only-penalty"
    sentence: str = (
        "A control that warns: the penalty's gradient without its lower-level copy, which is a "
        "filter by loss."
    )
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """The weights that the search ends with.

        Raises:
            ConfigError: If there are too few validation rows.
        """
        with warmed(pool, self.name) as warm:
            settings = warm.ground.config.estimator
            estimator = LossOnly(strength=settings.strength, validation_size=settings.batch_size)
            head = warm.ground.config.outer.head
            return searched(warm, head=head, estimator=estimator, seed=pool.seed)


@dataclass(frozen=True, slots=True)
class LossOnly:
    """The penalty's pulled adapter alone.

    Attributes:
        strength: lambda.
        validation_size: Validation rows of one outer gradient, at most.
    """

    strength: float
    validation_size: int

    def begin(self, inner: InnerLevel) -> RunningLossOnly:
        """Pull the inner level's own adapter."""
        return RunningLossOnly(self, inner)


class RunningLossOnly:
    """The pulled adapter at work."""

    def __init__(self, knobs: LossOnly, inner: InnerLevel) -> None:
        """It starts where the inner level stands."""
        self.knobs, self.inner = knobs, inner

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One step of the pulled adapter; see `Running`."""
        inner, strength = self.inner, self.knobs.strength
        outer = inner.outer_gradient(size=self.knobs.validation_size)
        losses, by_rows = inner.gradient(rows, weights / len(rows))
        if outer is None:
            return None
        # Divided by 1 + lambda as in the penalty, so that the clipping norm means the same.
        for parameter, v, g in zip(inner.parameters, outer.by_parameter, by_rows, strict=True):
            parameter.grad = (v + strength * g) / (1 + strength)
        if not inner.apply(rows, losses):
            return None
        return Estimate.if_finite(rows, strength * losses / len(rows), outer.loss)

    def state(self) -> dict[str, Any]:
        """Nothing beside the inner level's own state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to go back to."""

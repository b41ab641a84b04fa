"""Two adapters on one base: one trained on the weighted rows, one also pulled by validation.

    theta = argmin  L_val + lambda G(w),    u = argmin G(w),    G = (1/B) sum_i w_i l_i
    d_i = lambda (l_i(theta) - l_i(u)) / B

A row whose loss rises when the model is pulled toward the real rows is pushed down. The
subtraction is the method: without it d is a filter by loss. The bias falls like 1 / lambda.

Reference:
    F2SA (Kwon et al. 2023, arXiv 2301.10945), BOME (Liu et al. 2022, arXiv 2209.08709), and
    ScaleBiO (arXiv 2406.19976), which shares the batch between both copies as done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.estimators.finite_difference import same_randomness
from trajweight.estimators.protocol import Estimate
from trajweight.inner import InnerLevel

if TYPE_CHECKING:
    from trajweight.problem import Rows


@dataclass(frozen=True, slots=True)
class Penalty:
    """The first-order penalty; about three times the cost of plain fine-tuning.

    Attributes:
        strength: lambda.
        validation_size: Validation rows of one outer gradient, at most.
    """

    strength: float = 10.0
    validation_size: int = 64

    def begin(self, inner: InnerLevel) -> RunningPenalty:
        """Put the pulled adapter beside the inner level's own, with the same values.

        Raises:
            ConfigError: If the problem cannot have a second adapter.
        """
        return RunningPenalty(self, inner)


class RunningPenalty:
    """Both adapters at work."""

    def __init__(self, knobs: Penalty, inner: InnerLevel) -> None:
        """The pulled adapter starts where the plain one stands."""
        self.knobs, self.inner = knobs, inner
        self.pulled = InnerLevel(inner.problem.sibling("pulled"), inner.config, seed=0)
        self.pulled.restore(inner.state())
        self.made = 0

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One step of each adapter on the same rows; see `Running`."""
        self.made += 1
        pulled, strength = self.pulled, self.knobs.strength
        outer = pulled.outer_gradient(size=self.knobs.validation_size)
        coefficients = weights / len(rows)
        with same_randomness(self.made):
            pulled_losses, by_rows = pulled.gradient(rows, coefficients)
        if outer is not None:
            # The sum is divided by 1 + lambda, so that the clipping norm means the same as for u.
            mixed = [
                (v + strength * g) / (1 + strength)
                for v, g in zip(outer.by_parameter, by_rows, strict=True)
            ]
            for parameter, gradient in zip(pulled.parameters, mixed, strict=True):
                parameter.grad = gradient
            pulled.apply(rows, pulled_losses)
        with same_randomness(self.made):
            plain_losses, _ = self.inner.gradient(rows, coefficients)
        if not self.inner.apply(rows, plain_losses) or outer is None:
            return None
        d = strength * (pulled_losses - plain_losses) / len(rows)
        return Estimate.if_finite(rows, d, outer.loss)

    def state(self) -> dict[str, Any]:
        """See `Running`."""
        return {"made": self.made, "pulled": self.pulled.state()}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        self.made = state["made"]
        self.pulled.restore(state["pulled"])

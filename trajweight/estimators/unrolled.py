"""Back through the last K steps of AdamW, with first-order passes only.

Every step is kept as its parameters, moments and gradient. Going back, the cotangent of a step's
gradient gives d of its rows by a ghost product, and its Hessian product, by a difference of two
gradients, carries the rest on to the step before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.adamw import AdamStep, Cotangent
from trajweight.estimators.ghost import ghost_pass
from trajweight.estimators.protocol import Estimate
from trajweight.estimators.pullback import held_at, length_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A window of K inner steps, differentiated as a whole; about four times plain fine-tuning.

    Attributes:
        steps: K; with 1 it is the exact ghost with the outer gradient after the step.
        validation_size: Validation rows of one outer gradient, at most.
    """

    steps: int = 2
    validation_size: int = 64

    def begin(self, inner: InnerLevel) -> RunningUnrolled:
        """Start a window on an inner level."""
        return RunningUnrolled(self, inner)


@dataclass(frozen=True)
class _Kept:
    """One step of the window."""

    rows: Rows
    weights: Tensor
    theta: list[Tensor]
    step: AdamStep


class RunningUnrolled:
    """The window being filled; every K-th step empties it into an estimate."""

    def __init__(self, knobs: Unrolled, inner: InnerLevel) -> None:
        """Begin with an empty window."""
        self.knobs, self.inner = knobs, inner
        self.window: list[_Kept] = []

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One training pass; after every K-th the way back through all K; see `Running`."""
        theta = [parameter.detach().clone() for parameter in self.inner.parameters]
        step = self.inner.recorded_step(rows, weights)
        if step is None:  # the window is broken where a step was skipped
            self.window = []
            return None
        self.window.append(_Kept(rows, weights, theta, step))
        if len(self.window) < self.knobs.steps:
            return None
        window, self.window = self.window, []
        outer = self.inner.outer_gradient(size=self.knobs.validation_size)
        if outer is None:
            return None
        d = self._back(window, Cotangent.at_end(outer.by_parameter))
        rows = [row for kept in window for row in kept.rows]
        return Estimate.if_finite(rows, d, outer.loss)

    def _back(self, window: Sequence[_Kept], cotangent: Cotangent) -> Tensor:
        """The d of the rows of all steps, the first step's first: (K b,)."""
        found: list[Tensor] = []
        for kept in reversed(window):
            by_gradient, cotangent = kept.step.back(cotangent)
            with held_at(self.inner.parameters, kept.theta):
                found.append(ghost_pass(self.inner, kept.rows, by_gradient) / len(kept.rows))
            if kept is not window[0]:
                curved = self._hessian_product(kept, by_gradient)
                theta = [a + h for a, h in zip(cotangent.theta, curved, strict=True)]
                cotangent = replace(cotangent, theta=theta)
        return torch.cat(found[::-1])

    def _hessian_product(self, kept: _Kept, direction: Sequence[Tensor]) -> list[Tensor]:
        """Hessian of the step's weighted mean loss, at its parameters, times a direction."""
        coefficients = kept.weights / len(kept.rows)
        return hessian_product(self.inner, [(kept.rows, coefficients)], kept.theta, direction)

    def state(self) -> dict[str, Any]:
        """See `Running`; an open window is part of it."""
        return {
            "window": [
                {
                    "rows": list(kept.rows),
                    "weights": kept.weights,
                    "theta": kept.theta,
                    "step": dict(vars(kept.step)),
                }
                for kept in self.window
            ]
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        self.window = [
            _Kept(kept["rows"], kept["weights"], kept["theta"], AdamStep(**kept["step"]))
            for kept in state["window"]
        ]


def hessian_product(
    inner: InnerLevel,
    terms: Sequence[tuple[Rows, Tensor]],
    theta: Sequence[Tensor],
    direction: Sequence[Tensor],
) -> list[Tensor]:
    """Hessian of sum c_i l_i at theta times a direction, by a difference of two gradients.

    The move is the cube root of the precision times the adapter's length, where truncation and
    rounding are of one size.

    Args:
        inner: Whose losses and parameters.
        terms: Rows with their coefficients c, (b,) each.
        theta: Where the Hessian is taken.
        direction: One tensor a parameter.
    """
    move = length_of(direction)
    if move == 0:
        return [torch.zeros_like(each) for each in direction]
    precision = torch.finfo(theta[0].dtype).eps
    epsilon = precision ** (1 / 3) * (length_of(theta) or 1.0) / move
    sides: list[list[Tensor]] = []
    for side in (epsilon, -epsilon):
        values = [t + side * u for t, u in zip(theta, direction, strict=True)]
        total = [torch.zeros_like(each) for each in theta]
        with held_at(inner.parameters, values):
            for rows, coefficients in terms:
                _, gradients = inner.gradient(rows, coefficients)
                for mine, gradient in zip(total, gradients, strict=True):
                    mine.add_(gradient)
        sides.append(total)
    return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*sides, strict=True)]

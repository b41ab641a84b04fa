"""Two forward passes on either side of the adapter: l_i(theta + e u) - l_i(theta - e u).

Works with any kernel and any layer, quantised ones too, since nothing is differentiated twice.

Reference:
    Central differences along the outer gradient as in DARTS (Liu et al. 2019, arXiv 1806.09055)
    and SAMA (arXiv 2310.05674), with the step chosen relative to the adapter's own length.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.estimators.pullback import At, Pullback, RunningPulledBack, held_at, length_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

#: Lengths of the move, relative to the adapter's, that calibration tries: truncation grows with
#: their square, rounding with their inverse. bf16 needs the long ones, fp64 the short ones.
RELATIVE_STEPS = tuple(2.0**-k for k in range(4, 14))


@dataclass(frozen=True, slots=True)
class FiniteDifference:
    """Central differences of the losses.

    Attributes:
        every: Inner steps between two estimates.
        relative_step: Length of the move over the adapter's; None to calibrate it on the first
            estimate, as the one of ``RELATIVE_STEPS`` that agrees best with its half.
        at: Where the outer gradient is taken.
        validation_size: Validation rows of one outer gradient, at most.
    """

    every: int = 1
    relative_step: float | None = None
    at: At = "theta"
    validation_size: int = 64

    def begin(self, inner: InnerLevel) -> RunningDifference:
        """Start on an inner level."""
        return RunningDifference(self, inner)


class RunningDifference(RunningPulledBack):
    """Finite differences at work: two forward passes an estimate."""

    def __init__(self, knobs: FiniteDifference, inner: InnerLevel) -> None:
        """The first step gives an estimate, and calibrates the length of the move."""
        super().__init__(knobs, inner)
        self.relative_step = knobs.relative_step

    def products(self, rows: Rows, pulled: Pullback) -> Tensor:
        """See `RunningPulledBack`."""
        if self.relative_step is None:
            self.relative_step = self._calibrated(rows, pulled)
        return self._slopes(rows, pulled, self.relative_step)

    def _slopes(self, rows: Rows, pulled: Pullback, relative_step: float) -> Tensor:
        """<grad l_i, u> at theta by central differences: (b,)."""
        move = length_of(pulled.direction)
        if move == 0:
            return torch.zeros(len(rows))
        epsilon = relative_step * (length_of(pulled.theta) or 1.0) / move
        sides = []
        for side in (epsilon, -epsilon):
            values = [t + side * u for t, u in zip(pulled.theta, pulled.direction, strict=True)]
            with held_at(self.inner.parameters, values), same_randomness(self.made):
                sides.append(self.inner.problem.evaluate(rows))
        return (sides[0] - sides[1]) / (2 * epsilon)

    def _calibrated(self, rows: Rows, pulled: Pullback) -> float:
        found = [self._slopes(rows, pulled, step) for step in RELATIVE_STEPS]
        gaps = [
            float((one - half).norm() / half.norm().clamp_min(1e-30))
            for one, half in pairwise(found)
        ]
        finite = [gap if math.isfinite(gap) else math.inf for gap in gaps]
        return RELATIVE_STEPS[finite.index(min(finite))]

    def state(self) -> dict[str, Any]:
        """See `Running`."""
        return {**super().state(), "relative_step": self.relative_step}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        super().restore(state)
        self.relative_step = state["relative_step"]


@contextmanager
def same_randomness(seed: int) -> Iterator[None]:
    """Passes under the same seed drop the same cells; the generators are as before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

"""Ways to learn, for each row of a batch, how the outer loss would move if the row counted more.

All of them return d_i = dL_val / dw_i and never see the head, so they can be exchanged and judged
against each other. Each is a value with its own knobs; `begin` gives its working state.
"""

from __future__ import annotations

from trajweight.estimators.finite_difference import FiniteDifference
from trajweight.estimators.ghost import Ghost
from trajweight.estimators.implicit import Implicit
from trajweight.estimators.penalty import Penalty
from trajweight.estimators.protocol import Estimate, Estimator, Running
from trajweight.estimators.unrolled import Unrolled

__all__ = [
    "Estimate",
    "Estimator",
    "FiniteDifference",
    "Ghost",
    "Implicit",
    "Penalty",
    "Running",
    "Unrolled",
]

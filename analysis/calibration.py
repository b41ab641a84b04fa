"""Mean quality by tenths of the weights: whether heavier rows are better rows all along."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.ranks import average_ranks
from trajweight.analysis.resampling import Interval, student

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

N_DECILES: Final = 10
WILSON: Final = "Wilson's score, rows of a task counted together"
LINEAR: Final = "t, rows of a task counted together"


@dataclass(frozen=True, slots=True)
class Decile(Facts):
    """A tenth of the rows by weight.

    Attributes:
        decile: From 1, the lightest, to 10.
        n: Its rows; rows of one weight stand together, so tenths may differ in size.
        n_tasks: Their tasks.
        weight_low: The least weight.
        weight_high: The greatest.
        mean_weight: Their mean.
        mean_quality: Mean quality of the rows, each counting the same.
        interval: Of the mean quality of rows with weights in this range; None with fewer than two
            tasks, or where all have the same quality and it is neither 0 nor 1 throughout.
    """

    decile: int
    n: int
    n_tasks: int
    weight_low: float
    weight_high: float
    mean_weight: float
    mean_quality: float
    interval: Interval | None


def deciles(weights: Floats, quality: Floats, tasks: Ints) -> tuple[Decile, ...]:
    """Mean quality by tenths of the weights; a tenth without rows is left out.

    A row of average rank R among n stands in tenth 1 + floor(10 (R - 1/2) / n). The mean m of a
    tenth has the variance

        v = t / (t - 1) sum_c e_c^2 / n^2        e_c = sum over the rows of task c of (q_i - m)

    for t tasks with n rows in the tenth. Graded quality has the interval m -+ T sqrt(v), T being
    Student's quantile with t - 1 degrees of freedom. A mean of zeros and ones is a share and has
    Wilson's, with T and with m (1 - m) / v rows, n at most; where all are one kind v is 0, and as
    many rows as there are tasks are counted.

    Args:
        weights: Non-negative. Shape (n,).
        quality: Finite. Shape (n,).
        tasks: Codes of the rows' tasks. Shape (n,).

    Reference:
        Wilson, Probable inference, 1927; Korn and Graubard, Confidence intervals for proportions
        with small expected number of positive counts, Survey Methodology 24, 1998.
    """
    n = len(weights)
    if n == 0:
        return ()
    place = np.minimum((average_ranks(weights) - 0.5) / n * N_DECILES, N_DECILES - 1).astype(int)
    names, task = np.unique(tasks, return_inverse=True)
    sizes = np.bincount(place, minlength=N_DECILES)
    filled = np.maximum(sizes, 1)
    means, mean_weights = (
        np.bincount(place, values, minlength=N_DECILES) / filled for values in (quality, weights)
    )
    cells, cell = np.unique(place * len(names) + task, return_inverse=True)
    tenth_of_cell = cells // len(names)
    n_tasks = np.bincount(tenth_of_cell, minlength=N_DECILES)
    errors = np.bincount(cell, quality - means[place])  # e_c
    squares = np.bincount(tenth_of_cell, errors * errors, minlength=N_DECILES)
    lows, highs = np.full(N_DECILES, np.inf), np.full(N_DECILES, -np.inf)
    np.minimum.at(lows, place, weights)
    np.maximum.at(highs, place, weights)
    is_share = bool(np.isin(quality, (0.0, 1.0)).all())
    found = []
    for at in np.flatnonzero(sizes):
        size, t = int(sizes[at]), int(n_tasks[at])
        variance = float(squares[at]) / size**2 * t / max(t - 1, 1)
        mean = float(means[at])
        interval = _interval(mean, variance, size, t, is_share=is_share)
        found.append(
            Decile(
                decile=int(at) + 1,
                n=size,
                n_tasks=t,
                weight_low=float(lows[at]),
                weight_high=float(highs[at]),
                mean_weight=float(mean_weights[at]),
                mean_quality=mean,
                interval=interval,
            )
        )
    return tuple(found)


def _interval(
    mean: float, variance: float, n: int, n_tasks: int, *, is_share: bool
) -> Interval | None:
    """Wilson's interval of a share, Student's of any other mean."""
    if n_tasks < 2 or (variance <= 0 and not is_share):
        return None
    far = student(n_tasks)
    if not is_share:
        half = far * math.sqrt(variance)
        return Interval(mean - half, mean + half, LINEAR)
    rows = min(mean * (1.0 - mean) / variance, n) if variance > 0 else n_tasks
    far = far * far / rows
    middle = (mean + far / 2.0) / (1.0 + far)
    half = math.sqrt(far * mean * (1.0 - mean) + far * far / 4.0) / (1.0 + far)
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0), WILSON)

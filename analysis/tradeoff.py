"""The three-way trade-off: what is left of diversity, shift and sample size as weights sharpen.

Sharper weights pull the synthetic set toward the real one (less shift), keep fewer kinds of rows
(less diversity) and count as fewer rows (less effective sample size, a wider bound). All of it is
an estimate, since the weights have seen the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.chance import subsample
from trajweight.analysis.discrepancy import distance, mean_within, pair_discrepancies, standardised
from trajweight.analysis.facts import Facts
from trajweight.analysis.inequalities import posterior_width
from trajweight.errors import ConfigError, DataError
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Beyond this many rows a side is subsampled for the distances; sample sizes use all rows.
MAX_ROWS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Point(Facts):
    """The synthetic set at one temperature.

    Attributes:
        temperature: Infinite (null in JSON) where all weights are the same.
        diversity: Mean distance of two different rows drawn by their weights, in standard
            deviations a dimension.
        shift: Energy distance from the real rows, in the same units; unbiased, so it may fall a
            little below zero.
        ess: Effective sample size of the rows.
        ess_fraction: The same over the rows.
        n_eff: Effective sample size of the tasks, which is what a bound counts on.
        width: What theorem A would say of the complexity at this ``n_eff``, in units of a loss in
            [0, 1]; an estimate.
    """

    temperature: float
    diversity: float
    shift: float
    ess: float
    ess_fraction: float
    n_eff: float
    width: float


@dataclass(frozen=True, slots=True)
class Tradeoff(Facts):
    """The path of temperatures, ready to be drawn.

    Attributes:
        points: One a temperature, sharpest weights first.
        n_synthetic: Synthetic rows there are.
        n_real: Real rows there are.
        n_synthetic_used: Synthetic rows whose distances were measured.
        n_real_used: Real rows whose distances were measured.
        kl: KL that the widths were computed for, in nats.
        delta: Chance to fail that they were computed for.
    """

    points: tuple[Point, ...]
    n_synthetic: int
    n_real: int
    n_synthetic_used: int
    n_real_used: int
    kl: float
    delta: float


def tradeoff(
    x: Floats,
    weights: Floats,
    temperatures: Sequence[float],
    y: Floats,
    *,
    tasks: Ints | None = None,
    kl: float = 0.0,
    delta: float = 0.05,
    seed: int = 0,
    max_rows: int = MAX_ROWS,
) -> Tradeoff:
    """Diversity, shift and effective sample size of weights at each temperature.

    Args:
        x: Embeddings of the synthetic rows. Shape (n, d).
        weights: A column a temperature, each as the head gives them at that temperature or as
            `tempered` makes them. Shape (n, t).
        temperatures: Shape (t,).
        y: Embeddings of real rows. Shape (m, d).
        tasks: The task of each synthetic row; every row its own when not given. Shape (n,).
        kl: Of the posterior in nats, for the width.
        delta: Chance to fail, for the width.
        seed: Of the subsample.
        max_rows: Rows of either side beyond which distances are measured on a subsample.

    Raises:
        ConfigError: If there are not as many temperatures as columns.
        DataError: If a column has no weight on two rows, or embeddings are not finite.
    """
    if weights.ndim != 2 or weights.shape[1] != len(temperatures):
        message = f"there are {len(temperatures)} temperatures and weights of {weights.shape}."
        raise ConfigError(message, hint="Give one column of weights a temperature.")
    kept, kept_real = (subsample(len(each), max_rows, seed=seed) for each in (x, y))
    rows, real = standardised(x[kept], y[kept_real])
    shares = weights[kept] / np.maximum(weights[kept].sum(axis=0), 1e-300)
    if not (shares.max(axis=0, initial=0.0) < 1.0 - 1e-9).all() or len(real) < 2:
        message = "weights at one of the temperatures leave fewer than two rows to compare."
        raise DataError(message, hint="Ask for higher temperatures.")
    (shifts,) = pair_discrepancies(rows, shares, real, [distance])
    (spreads,) = mean_within(rows, shares, [distance])
    codes = np.arange(len(x)) if tasks is None else np.unique(tasks, return_inverse=True)[1]
    points = []
    for column, temperature in enumerate(temperatures):
        w = weights[:, column]
        ess = float(effective_sample_size(w))
        by_task = np.asarray(np.bincount(codes, weights=w), dtype=np.float64)
        n_eff = float(effective_sample_size(by_task))
        points.append(
            Point(
                temperature=float(temperature),
                diversity=float(spreads[column]),
                shift=float(shifts[column]),
                ess=ess,
                ess_fraction=ess / len(x),
                n_eff=n_eff,
                width=posterior_width(n_eff, kl, delta),
            )
        )
    return Tradeoff(
        points=tuple(sorted(points, key=lambda point: point.temperature)),
        n_synthetic=len(x),
        n_real=len(y),
        n_synthetic_used=len(rows),
        n_real_used=len(real),
        kl=kl,
        delta=delta,
    )


def tempered(weights: Floats, temperature: float) -> Floats:
    """Weights to the power of one over the temperature, with mean one.

    At 1 they are as they were, toward infinity uniform, toward 0 all on the heaviest. It is not
    what a head gives at that temperature, whose scores pass through a sigmoid, but it needs the
    weights alone.

    Args:
        weights: At least zero, one above it. Shape (n,).
        temperature: Above zero, or infinite.

    Example:
        >>> tempered(np.array([1.0, 9.0]), 2.0)
        array([0.5, 1.5])
    """
    if not temperature > 0:
        message = f"the temperature is {temperature}; it must be above 0."
        raise ConfigError(message)
    # divided by the largest first, so that no power leaves the range of the numbers
    powered = (weights / weights.max()) ** (1.0 / temperature)
    found: Floats = powered / powered.mean()
    return found

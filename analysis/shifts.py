"""In which plain features do the weighted synthetic rows differ from the real ones?

Turns, length, tool use and reward, one at a time: how far the means lie apart, and how far the
whole distributions do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.chance import PERMUTATIONS, Comparison, compare, share_columns, subsample
from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import floats_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: The features of a trajectory that need no model.
FEATURES: Final = ("n_turns", "n_tokens", "n_chars", "n_tool_calls", "reward")
#: Beyond this many rows a side is subsampled.
MAX_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FeatureShift(Facts):
    """How far one feature of the synthetic rows lies from that of the real ones.

    Attributes:
        feature: Its column.
        mean_difference: Synthetic mean minus real mean, in standard deviations: the root of the
            mean of both unweighted variances, so the yardstick does not move with the weights.
        largest_gap: Greatest difference of the two distribution functions (Kolmogorov-Smirnov),
            0 to 1.
        n_synthetic: Synthetic rows used, of those that have the feature.
        n_real: Real rows used, of those that have it.
    """

    feature: str
    mean_difference: Comparison
    largest_gap: Comparison
    n_synthetic: int
    n_real: int


@dataclass(frozen=True, slots=True)
class FeatureShifts(Facts):
    """The shifts of all features that could be measured, and why the others could not.

    Attributes:
        measured: In the order asked for.
        not_measured: By feature, the reason.
    """

    measured: tuple[FeatureShift, ...]
    not_measured: dict[str, str]


def feature_shifts(
    synthetic: pl.DataFrame,
    real: pl.DataFrame,
    *,
    features: Sequence[str] = FEATURES,
    groups: Ints | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    max_rows: int = MAX_ROWS,
) -> FeatureShifts:
    """How far the features of the synthetic rows lie from those of the real ones.

    Rows without a feature, or whose value is not finite, do not count for it, and weights are
    dealt among the others.

    Args:
        synthetic: One row a trajectory, with ``weight`` and the features.
        real: One row a trajectory, with the features.
        features: Numeric columns.
        groups: See `chance.share_columns`.
        seed: Of the subsample and the deals.
        permutations: Deals.
        max_rows: Rows of either side beyond which a subsample is drawn.
    """
    measured: list[FeatureShift] = []
    not_measured: dict[str, str] = {}
    weights = synthetic["weight"].to_numpy()
    for feature in features:
        if feature not in synthetic.columns or feature not in real.columns:
            not_measured[feature] = "no such column"
            continue
        values, against = floats_of(synthetic, feature), floats_of(real, feature)
        rows = np.flatnonzero(np.isfinite(values))
        rows = rows[subsample(len(rows), max_rows, seed=seed)]
        against = against[np.isfinite(against)]
        against = against[subsample(len(against), max_rows, seed=seed)]
        obstacle = _obstacle(values[rows], weights[rows], against)
        if obstacle:
            not_measured[feature] = obstacle
            continue
        shares = share_columns(
            weights[rows],
            permutations=permutations,
            seed=seed,
            groups=None if groups is None else groups[rows],
        )
        measured.append(
            FeatureShift(
                feature=feature,
                mean_difference=compare(
                    mean_differences(values[rows], shares, against), signed=True
                ),
                largest_gap=compare(largest_gaps(values[rows], shares, against)),
                n_synthetic=len(rows),
                n_real=len(against),
            )
        )
    return FeatureShifts(tuple(measured), not_measured)


def mean_differences(x: Floats, shares: Floats, y: Floats) -> Floats:
    """Weighted mean of ``x`` minus mean of ``y``, in standard deviations, for each column.

    Args:
        x: Values. Shape (n,).
        shares: Columns that each sum to one. Shape (n, k).
        y: Values; not all values of both sides may be the same. Shape (m,).

    Reference:
        Austin, Balance diagnostics for comparing the distribution of baseline covariates, Stat.
        Med. 28, 2009.
    """
    yardstick = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2.0)
    if yardstick == 0.0:  # two constants: the deviation of both together, which is not zero
        yardstick = np.concatenate([x, y]).std()
    found: Floats = (x @ shares - y.mean()) / yardstick
    return found


def largest_gaps(x: Floats, shares: Floats, y: Floats) -> Floats:
    """Greatest difference of the distribution functions of ``x`` and ``y``, for each column.

    Args:
        x: Values. Shape (n,).
        shares: Columns that each sum to one. Shape (n, k).
        y: Values. Shape (m,).
    """
    both = np.concatenate([x, y])
    order = np.argsort(both, kind="stable")
    excess = np.concatenate([shares, np.full((len(y), shares.shape[1]), -1.0 / len(y))])
    gaps = np.abs(np.cumsum(excess[order], axis=0))
    last = np.append(np.diff(both[order]) > 0, True)  # of each run of equal values
    found: Floats = gaps[last].max(axis=0)
    return found


def _obstacle(x: Floats, weights: Floats, y: Floats) -> str:
    """Why a feature cannot be measured, or ""."""
    for side, values in (("synthetic", x), ("real", y)):
        if len(values) < 2:
            return f"{len(values)} {side} rows have it; it takes two"
    if not weights.sum() > 0:
        return "all synthetic rows that have it weigh nothing"
    if min(x.min(), y.min()) == max(x.max(), y.max()):
        return "it is the same in all rows"
    return ""

"""Whether something simple explains the weights: rank correlation with length, turns, base loss.

Length is the field's most common artefact: a scorer that only sees how long a trajectory is can
look as if it saw quality. So it is measured in every report. The statistics stand here; they take
counts of the rows, so that `associations` can draw rows again.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.analysis.ranks import Ordered, ordered
from trajweight.analysis.resampling import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trajweight.analysis.resampling import Statistic

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

#: A rank correlation beyond this, either way, is a warning.
WARN_BEYOND: Final = 0.5
#: A correlation nearer to one than this leaves nothing that could be partialled out.
_ROUNDING: Final = 1e-12
FISHER: Final = "Fisher's z, rows taken as independent"


def fisher_interval(
    r: float, n: int, *, kind: Literal["spearman", "kendall"] = "spearman", n_given: int = 0
) -> Interval | None:
    """An interval for a rank correlation of independent rows: tanh(atanh(r) -+ q se).

        se^2 = (1 + r^2 / 2) / (n - k - 3)   Spearman, k columns being partialled out
        se^2 = 0.437 / (n - 4)               Kendall; meant for |tau| below about 0.8

    Args:
        r: The correlation.
        n: Rows.
        kind: Which correlation it is.
        n_given: Columns that were partialled out.

    Returns:
        None where there are too few rows, or where the correlation is one.

    Reference:
        Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations, Psychometrika 65, 2000; Fieller, Hartley and Pearson, Tests for rank
        correlation coefficients I, Biometrika 44, 1957.
    """
    free = n - n_given - (3 if kind == "spearman" else 4)
    if free < 1 or abs(r) >= 1.0 - _ROUNDING:
        return None
    variance = (1.0 + r * r / 2.0) / free if kind == "spearman" else 0.437 / free
    far = NormalDist().inv_cdf(0.5 + LEVEL / 2.0) * math.sqrt(variance)
    middle = math.atanh(r)
    return Interval(math.tanh(middle - far), math.tanh(middle + far), FISHER)


def rank_statistic(sides: Sequence[Floats]) -> Statistic:
    """Spearman's correlation of two columns for counts of the rows: (k, m) to (k, 1).

    With a third column z it is what the first two keep of theirs with z held fixed,

        r = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))

    which is Pearson's correlation of the ranks of x and y less what least squares on the ranks of
    z foretells of them. NaN where a side is constant, or follows from z.

    Args:
        sides: Two or three columns of finite numbers. Each of shape (m,).

    Reference:
        Kendall, Partial rank correlation, Biometrika 32, 1942; the form is Yule's, 1907.
    """
    orders = [ordered(side) for side in sides]

    def statistic(counts: Floats) -> Floats:
        middle = (counts.sum(axis=1, keepdims=True) + 1.0) / 2.0  # the mean of all ranks
        return spearman_of_ranks([order.ranks(counts) - middle for order in orders], counts)

    return statistic


def tau_statistic(x: Floats, y: Floats) -> Statistic:
    """Kendall's tau-b of two columns for counts of the rows: (k, m) to (k, 1).

    With s_ij = sign(x_i - x_j) sign(y_i - y_j) over all ordered pairs of rows,

        tau_b = sum_ij s_ij / sqrt(n^2 - sum_g c_g^2) / sqrt(n^2 - sum_h d_h^2)

    for c_g and d_h the sizes of the runs of equal x and of equal y. A row counted twice is two
    equal rows. NaN where a side is constant.

    Reference:
        Kendall, A new measure of rank correlation, Biometrika 30, 1938; ties after Kendall, The
        treatment of ties in ranking problems, Biometrika 33, 1945.
    """
    orders = ordered(x), ordered(y)
    # Signs are whole numbers and counts small, so single precision loses nothing that matters.
    signs = _signs(orders[0]) * _signs(orders[1])

    def statistic(counts: Floats) -> Floats:
        n = counts.sum(axis=1)
        share = (counts / n[:, None]).astype(np.float32)
        agreed = np.einsum("km,km->k", share @ signs, share).astype(np.float64)
        untied = [
            np.maximum(1.0 - ((side.sums(counts) / n[:, None]) ** 2).sum(axis=1), 0.0)
            for side in orders
        ]
        found = _ratio(agreed, np.sqrt(untied[0] * untied[1]))
        return np.clip(found, -1.0, 1.0)[:, None]

    return statistic


def spearman_of_ranks(ranks: Sequence[Floats], counts: Floats) -> Floats:
    """Of two or three sides' ranks around their means, each of shape (k, m): (k, 1)."""
    heavy = [counts * side for side in ranks]
    squares = [np.einsum("km,km->k", a, b) for a, b in zip(heavy, ranks, strict=True)]

    def r(a: int, b: int) -> Floats:
        product: Floats = np.einsum("km,km->k", heavy[a], ranks[b])
        return _ratio(product, np.sqrt(squares[a] * squares[b]))

    found = r(0, 1)
    if len(ranks) == 3:
        xz, yz = r(0, 2), r(1, 2)
        left = [1.0 - side * side for side in (xz, yz)]
        is_free = np.minimum(*left) > _ROUNDING
        below = np.sqrt(np.where(is_free, left[0] * left[1], 0.0))
        found = _ratio(found - xz * yz, below)
    return np.clip(found, -1.0, 1.0)[:, None]


def _signs(order: Ordered) -> Singles:
    """Which of two rows is the greater: 1, 0 or -1. Shape (m, m)."""
    run = order.run.astype(np.float32)
    signs: Singles = np.sign(run[:, None] - run[None, :])
    return signs


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotient, NaN where there is nothing to divide by."""
    missing = np.full_like(above, np.nan)
    found: Floats = np.divide(above, below, out=missing, where=below > 0)
    return found

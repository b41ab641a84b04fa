"""Rows sorted into buckets by weight, for trainers that only know a rate for each file.

A bucket is drawn from with a chance equal to its share of the mass, so that a row of bucket b is
met in proportion to the bucket's mean weight. What is lost is the spread inside the buckets:

    sum (w - mean)^2 = sum_b n_b (mean_b - mean)^2  +  sum_b sum_{i in b} (w_i - mean_b)^2
         total       =           between            +             within

``loss`` is within / total. Replacing weights by means of buckets never lowers ESS, since the sum
stays and the sum of squares falls by what is within.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.errors import ConfigError
from trajweight.weights import effective_share, mean_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket; weights are scaled to mean one over all buckets.

    Attributes:
        n_rows: Rows in it.
        lightest: Least weight.
        heaviest: Greatest weight.
        mean_weight: What each row counts in the mixture.
        rate: Chance to draw from it; its share of the mass, 0 to 1.
        variation: Coefficient of variation of the weights inside; 0 if all are equal.
    """

    n_rows: int
    lightest: float
    heaviest: float
    mean_weight: float
    rate: float
    variation: float


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Rows in buckets, and what that costs.

    Attributes:
        of_row: The bucket of each row, counted from 0. Shape (n,).
        buckets: The lightest first.
        loss: Share of the variance of the weights that is lost, 0 to 1.
        ess_before: ESS/n of the weights.
        ess_after: ESS/n of the weights that the mixture stands for.
    """

    of_row: Ints
    buckets: tuple[Bucket, ...]
    loss: float
    ess_before: float
    ess_after: float

    @property
    def weights(self) -> Floats:
        """What the mixture stands for: each row with the mean of its bucket. Shape (n,)."""
        return np.array([bucket.mean_weight for bucket in self.buckets])[self.of_row]


def buckets(weights: Floats, k: int) -> Buckets:
    """Sort rows into ``k`` buckets of about equal size, or one for each weight if these are fewer.

    Rows of equal weight are never parted, so buckets are unequal where many rows share a weight.

    Args:
        weights: Non-negative weights, not all zero. Shape (n,).
        k: Most buckets.

    Raises:
        ConfigError: If ``k`` is below one.
        DataError: If these are no weights.

    Example:
        >>> made = buckets(np.array([0.2, 1.8, 0.2, 1.4, 1.4]), 2)
        >>> made.of_row, [round(bucket.rate, 3) for bucket in made.buckets]
        (array([0, 1, 0, 1, 1]), [0.08, 0.92])
    """
    if k < 1:
        message = f"--buckets is {k}; it must be at least 1."
        raise ConfigError(message)
    w = mean_one(weights)
    values, value_of_row, sizes = np.unique(w, return_inverse=True, return_counts=True)
    last = _last_values(sizes, k)
    of_row = np.searchsorted(last, value_of_row).astype(np.int64)
    n_rows = np.bincount(of_row)
    mass = np.bincount(of_row, w)
    starts = np.concatenate([[0], last[:-1] + 1])
    # a mean of equal numbers can lie a rounding beside them
    means = np.clip(mass / n_rows, values[starts], values[last])
    off = w - means[of_row]
    within = np.bincount(of_row, off * off)
    total = float(((w - 1.0) ** 2).sum())
    spreads = np.sqrt(within / n_rows)
    variations = np.divide(spreads, means, out=np.zeros_like(spreads), where=means > 0)
    made = tuple(
        Bucket(*facts)
        for facts in zip(
            n_rows.tolist(),
            values[starts].tolist(),
            values[last].tolist(),
            means.tolist(),
            (mass / mass.sum()).tolist(),
            variations.tolist(),
            strict=True,
        )
    )
    return Buckets(
        of_row=of_row,
        buckets=made,
        loss=min(float(within.sum()) / total, 1.0) if within.any() else 0.0,
        ess_before=effective_share(w),
        ess_after=effective_share(means[of_row]),
    )


def _last_values(sizes: Ints, k: int) -> Ints:
    """The last distinct weight of each bucket, given the rows of each distinct weight.

    Each bucket in turn takes its even part of the rows that are left, as nearly as whole weights
    allow, and leaves at least one weight for each of the buckets after it.
    """
    ends = np.cumsum(sizes)
    k = min(k, len(sizes))
    last: list[int] = []
    for after in range(k - 1, 0, -1):
        first = last[-1] + 1 if last else 0
        taken = int(ends[first - 1]) if first else 0
        wanted = taken + (int(ends[-1]) - taken) / (after + 1)
        place = int(np.searchsorted(ends, wanted))
        if place and wanted - ends[place - 1] < ends[place] - wanted:
            place -= 1
        last.append(min(max(place, first), len(sizes) - 1 - after))
    return np.array([*last, len(sizes) - 1])

"""What weights dealt at random would have done: the noise a finding must stand out from.

A measure of the weighted set is held against the same measure with the same weights dealt to other
rows. Where the weights have nothing to do with what is measured, the true deal is one deal like
all others, so it falls outside of the band exactly once in ten. Uneven weights raise many
measures by themselves, for they leave fewer effective rows; dealt ones are raised alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Verdict = Literal["nearer", "further", "noise"]

#: With 199 deals the band from the 10th to the 190th holds exactly nine tenths.
PERMUTATIONS: Final = 199
#: Share of the deals that is left out on either side of the band.
TAIL: Final = 0.05
#: Fewer deals have no 5 % on a side.
_FEWEST: Final = 19
#: Equal deals add up in another order, so they differ by rounding.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Comparison(Facts):
    """One measure before and after weighting, and its band under weights dealt at random.

    Attributes:
        before: With every synthetic row counting the same.
        after: With the weights.
        null_low: Lower end of the band, the 5 % point of the deals.
        null_median: Median of the deals; ``after`` is judged against it, not against ``before``.
        null_high: Upper end of the band, the 95 % point.
        p_value: How often a deal lies as far out as ``after``, on either side; 1 / 100 at the
            least with 199 deals.
        n_permutations: Deals.
        verdict: Whether ``after`` lies outside of the band, and on the side of the real set.
    """

    before: float
    after: float
    null_low: float
    null_median: float
    null_high: float
    p_value: float
    n_permutations: int
    verdict: Verdict


def share_columns(
    weights: Floats,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    groups: Ints | None = None,
) -> Floats:
    """Shares of the rows: uniform, weighted, then the weights dealt at random.

    Args:
        weights: Finite weights of at least zero, one above it. Shape (n,).
        permutations: Deals, at least 19.
        seed: Of the deals.
        groups: The group of each row, as a number. Where given, weights are dealt from whole
            groups to whole groups of the same size and mixed inside, so that rows of one group,
            which are alike and are weighed alike, do not pass for as many witnesses. A group of
            a size of its own only mixes inside.

    Returns:
        Columns that each sum to one. Shape (n, 2 + permutations).

    Raises:
        DataError: If a weight is negative or not finite, or none is above zero.
        ConfigError: If there are too few deals for a band.
    """
    n, total = len(weights), float(weights.sum())
    if not (np.isfinite(weights).all() and weights.min(initial=0.0) >= 0 and total > 0):
        message = f"weights from {weights.min(initial=0.0)} with sum {total} cannot be compared."
        raise DataError(message, hint="Weights must be finite, at least 0, and not all 0.")
    if permutations < _FEWEST:
        message = f"{permutations} permutations give no 5-95 % band; it takes at least {_FEWEST}."
        raise ConfigError(message)
    rng = np.random.default_rng(seed)
    kinds = [np.arange(n)[:, None]] if groups is None else _by_size(groups)
    columns = np.empty((n, 2 + permutations))
    columns[:, 0], columns[:, 1] = 1.0 / n, weights / total
    for deal in range(2, 2 + permutations):
        for rows in kinds:  # (groups of one size, size)
            columns[rows, deal] = columns[_dealt(rows, rng), 1]
    return columns


def compare(values: Floats, *, signed: bool = False) -> Comparison:
    """What a measure says of the columns of `share_columns`.

    Args:
        values: The measure of each column: before, after, dealt. Shape (2 + permutations,).
        signed: Whether zero is the goal and both signs lead away from it; else less is nearer.

    Raises:
        DataError: If a value is not finite.
    """
    if not np.isfinite(values).all():
        message = f"a measure gave {values[~np.isfinite(values)][0]}; it cannot be compared."
        raise DataError(message, hint="Check the rows for values that are not finite numbers.")
    before, after = float(values[0]), float(values[1])
    dealt = np.sort(values[2:])
    n = len(dealt)
    cut = int(TAIL * (n + 1) + 1e-9)  # the deals on either side are as likely as the true one
    low, high, median = float(dealt[cut - 1]), float(dealt[n - cut]), float(np.median(dealt))
    slack = _ROUNDING * float(np.abs(values).max())
    below = int((dealt <= after + slack).sum())
    above = int((dealt >= after - slack).sum())
    return Comparison(
        before=before,
        after=after,
        null_low=low,
        null_median=median,
        null_high=high,
        p_value=min(1.0, 2.0 * (1 + min(below, above)) / (n + 1)),
        n_permutations=n,
        verdict=_verdict(after, (low - slack, median, high + slack), signed=signed),
    )


def subsample(n: int, limit: int, *, seed: int) -> Ints:
    """Positions of all rows, or of a random ``limit`` of them in their order.

    Example:
        >>> subsample(4, 10, seed=0).tolist()
        [0, 1, 2, 3]
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=limit, replace=False))


def _verdict(after: float, band: tuple[float, float, float], *, signed: bool) -> Verdict:
    """Where a value stands to a band of low, median and high."""
    low, median, high = band
    if low <= after <= high:
        return "noise"
    if signed:
        return "nearer" if abs(after) < abs(median) else "further"
    return "nearer" if after < low else "further"


def _by_size(groups: Ints) -> list[Ints]:
    """The rows of the groups of each size, a group a line."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(codes, kind="stable")
    sizes = counts[codes[order]]
    return [order[sizes == size].reshape(-1, size) for size in np.unique(counts)]


def _dealt(rows: Ints, rng: np.random.Generator) -> Ints:
    """Whole lines in another order, and the rows of every line in another order. Shape kept."""
    return rng.permuted(rng.permutation(rows), axis=1)

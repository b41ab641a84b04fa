"""How far the weighted synthetic rows lie from the real ones, by three distances between sets.

Energy distance and maximum mean discrepancy compare pairs of rows; sliced Wasserstein compares
shadows on lines. All take many columns of shares at once, so that a whole band of dealt weights
costs little more than one set of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    #: From squared distances to a kernel's values, in place or not.
    Kernel = Callable[[Floats], Floats]

#: Lines on which shadows are compared.
DIRECTIONS: Final = 64
#: Rows whose distances give the median.
_MEDIAN_ROWS: Final = 1_000
#: Rows of one block of distances; a block of this side is about 34 MB.
_BLOCK: Final = 2_048


class PValues(NamedTuple):
    """How often one set split at random differs as much as synthetic and real rows do."""

    before: float
    after: float


def standardised(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Both sets with mean zero and deviation one a dimension, divided by sqrt(d).

    Mean and deviation are those of both sets together, unweighted, so the yardstick is the same
    before and after weighting; a constant dimension becomes zero. After the division distances
    are in standard deviations, whatever the number of dimensions.

    Args:
        x: Rows. Shape (n, d).
        y: Rows. Shape (m, d).

    Raises:
        DataError: If the rows of the sets differ in length, or a value is not finite.
    """
    if x.ndim != 2 or x.shape[1:] != y.shape[1:]:
        message = f"embeddings have the shapes {x.shape} and {y.shape}; rows must match."
        raise DataError(message)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        message = "an embedding holds a value that is not a finite number."
        raise DataError(message, hint="Check the model: it gave NaN or infinity for a row.")
    both = np.concatenate([x, y]).astype(np.float64)
    deviation = both.std(axis=0)
    scaled = (both - both.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    scaled /= np.sqrt(max(x.shape[1], 1))
    return scaled[: len(x)], scaled[len(x) :]


def distance(squared: Floats) -> Floats:
    """The Euclidean distance: the kernel of the energy distance."""
    found: Floats = np.sqrt(squared)
    return found


def gaussian(bandwidth: float) -> Kernel:
    """The kernel exp(-d^2 / (2 bandwidth^2)) of the maximum mean discrepancy."""

    def kernel(squared: Floats) -> Floats:
        found: Floats = np.exp(squared * (-0.5 / bandwidth**2))
        return found

    return kernel


def median_distance(x: Floats, y: Floats, *, seed: int = 0) -> float:
    """Median distance of two different rows of both sets together; one where it is zero.

    Args:
        x: Rows. Shape (n, d).
        y: Rows. Shape (m, d).
        seed: Draws a thousand of the rows, where there are more.
    """
    both = np.concatenate([x, y])
    if len(both) > _MEDIAN_ROWS:
        both = np.random.default_rng(seed).choice(both, size=_MEDIAN_ROWS, replace=False)
    squared = _squared(both, both)[np.triu_indices(len(both), k=1)]
    return float(np.sqrt(np.median(squared))) or 1.0


def pair_discrepancies(
    x: Floats, shares: Floats, y: Floats, kernels: Sequence[Kernel]
) -> list[Floats]:
    """The distance that each kernel k sees between the weighted rows x and the rows y.

    With shares p of the rows x and q = 1/m of the rows y:

        D = 2 sum_ij p_i q_j k(x_i, y_j) - sum_i!=j p_i p_j k(x_i, x_j) / (1 - sum_i p_i^2)
                                         - sum_i!=j q_i q_j k(y_i, y_j) / (1 - 1/m)

    Division by one minus the squared shares makes it unbiased for shares that do not look at the
    rows: uneven weights are not punished for leaving fewer effective rows. With `distance` it is
    the energy distance; with `gaussian` it is minus the squared maximum mean discrepancy.

    Args:
        x: Rows. Shape (n, d).
        shares: Columns that each sum to one, with two rows above zero at least. Shape (n, k).
        y: Two rows or more. Shape (m, d).
        kernels: Of squared distances.

    Returns:
        For each kernel the distances of the columns, (k,).

    Reference:
        Szekely and Rizzo, Energy statistics, J. Stat. Plan. Inference 143, 2013; weighted as in
        Huling and Mak, Energy balancing of covariate distributions, arXiv 2004.13962. Gretton et
        al., A kernel two-sample test, J. Mach. Learn. Res. 13, 2012, lemma 6.
    """
    real = np.full((len(y), 1), 1.0 / len(y))
    cross = [each.mean(axis=0) for each in mean_kernels(x, shares, y, kernels)]
    inside, inside_real = mean_within(x, shares, kernels), mean_within(y, real, kernels)
    return [2.0 * c - i - r for c, i, r in zip(cross, inside, inside_real, strict=True)]


def mean_kernels(x: Floats, shares: Floats, y: Floats, kernels: Sequence[Kernel]) -> list[Floats]:
    """For each kernel, its weighted mean over ``x`` at each row of ``y``: (m, k)."""
    found = [np.zeros((len(y), shares.shape[1])) for _ in kernels]
    for rows in _blocks(len(y)):
        for columns in _blocks(len(x)):
            squared = _squared(y[rows], x[columns])
            for kernel, total in zip(kernels, found, strict=True):
                total[rows] += kernel(squared) @ shares[columns]
    return found


def mean_within(x: Floats, shares: Floats, kernels: Sequence[Kernel]) -> list[Floats]:
    """For each kernel, its mean over two different rows drawn by their shares: (k,).

    With `distance` it tells how diverse the weighted rows are (Rao's quadratic entropy, unbiased).
    """
    different = 1.0 - (shares * shares).sum(axis=0)
    sums = _off_diagonal_sums(x, shares, kernels)
    return [(shares * each).sum(axis=0) / different for each in sums]


def mmd_p_values(
    x: Floats, weights: Floats, y: Floats, *, bandwidth: float, permutations: int, seed: int = 0
) -> PValues:
    """How surely synthetic and real rows differ, unweighted and weighted.

    The rows of both sets are put together and split again at random, each synthetic place keeping
    its weight. Unweighted this is exact. Weighted it is exact where weights do not look at the
    rows and close elsewhere: with weights that make the two sets equal, one in twenty fell below
    0.05 in simulation.

    Args:
        x: Synthetic rows. Shape (n, d).
        weights: Of the synthetic rows. Shape (n,).
        y: Real rows. Shape (m, d).
        bandwidth: Of the Gaussian kernel.
        permutations: Random splits.
        seed: Of the splits.
    """
    rng, n, m = np.random.default_rng(seed), len(x), len(y)
    both, share = np.concatenate([x, y]), weights / weights.sum()
    placed, member = np.zeros((2, n + m, 1 + permutations))
    for split in range(1 + permutations):
        places = rng.permutation(n + m)[:n] if split else np.arange(n)
        placed[places, split], member[places, split] = share, 1.0
    columns = np.concatenate([member, placed, np.ones((n + m, 1))], axis=1)
    (sums,) = _off_diagonal_sums(both, columns, [gaussian(bandwidth)])
    by_member, by_placed = sums[:, : 1 + permutations], sums[:, 1 + permutations : -1]
    everything = sums[:, -1]  # (n + m,)
    chosen = (member * by_member).sum(axis=0)
    from_member = everything @ member
    among_real = (everything.sum() - 2.0 * from_member + chosen) / (m * (m - 1))
    before = chosen / (n * (n - 1)) + among_real - 2.0 * (from_member - chosen) / (n * m)
    among = (placed * by_placed).sum(axis=0) / (1.0 - (share * share).sum())
    cross = (everything @ placed - (member * by_placed).sum(axis=0)) / m
    after = among + among_real - 2.0 * cross
    return PValues(_tail(before), _tail(after))


def sliced_wasserstein(
    x: Floats, shares: Floats, y: Floats, *, directions: int = DIRECTIONS, seed: int = 0
) -> Floats:
    """Mean over random lines of how far mass must travel along the line, in standard deviations.

    Along one line it is the area between the two distribution functions. Fewer effective rows
    raise it, so compare it with dealt weights and not with zero.

    Args:
        x: Rows as `standardised` gives them. Shape (n, d).
        shares: Columns that each sum to one. Shape (n, k).
        y: Rows. Shape (m, d).
        directions: Lines.
        seed: Draws them.

    Returns:
        Distances of the columns, (k,).

    Reference:
        Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging
        Vis. 51, 2015.
    """
    width = x.shape[1]
    lines = np.random.default_rng(seed).normal(size=(width, directions))
    lines *= np.sqrt(width) / np.linalg.norm(lines, axis=0)  # undoes the division by sqrt(d)
    shadows = np.concatenate([x, y]) @ lines  # (n + m, directions)
    excess = np.concatenate([shares, np.full((len(y), shares.shape[1]), -1.0 / len(y))])
    found = np.zeros(shares.shape[1])
    for shadow in shadows.T:
        order = np.argsort(shadow, kind="stable")
        gaps = np.diff(shadow[order])
        between = np.cumsum(excess[order], axis=0)[:-1]
        np.abs(between, out=between)
        found += gaps @ between
    return found / directions


def _off_diagonal_sums(x: Floats, columns: Floats, kernels: Sequence[Kernel]) -> list[Floats]:
    """For each kernel, sum_j!=i k(x_i, x_j) columns_j: (n, k), a block at a time."""
    found = [np.zeros(columns.shape) for _ in kernels]
    blocks = _blocks(len(x))
    for at, rows in enumerate(blocks):
        for others in blocks[at:]:
            squared = _squared(x[rows], x[others])
            for kernel, total in zip(kernels, found, strict=True):
                values = kernel(squared)
                if rows == others:
                    np.fill_diagonal(values, 0.0)
                else:  # kernels are symmetric: half of the distances are enough
                    total[others] += values.T @ columns[rows]
                total[rows] += values @ columns[others]
    return found


def _squared(x: Floats, y: Floats) -> Floats:
    """|x_i - y_j|^2. Shape (n, m)."""
    squared: Floats = x @ y.T
    squared *= -2.0
    squared += (x * x).sum(axis=1)[:, None]
    squared += (y * y).sum(axis=1)
    # rounding can take a tiny square below zero
    return np.maximum(squared, 0.0, out=squared)


def _blocks(n: int) -> list[slice]:
    """The rows in blocks."""
    return [slice(at, at + _BLOCK) for at in range(0, n, _BLOCK)]


def _tail(values: Floats) -> float:
    """Share of the values that reach the first one, itself among them."""
    return float((values >= values[0] - 1e-12 * abs(values[0])).mean())

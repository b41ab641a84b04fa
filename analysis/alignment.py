"""Does the weighted synthetic set lie nearer to the real one than the unweighted set?

Energy distance on standardised embeddings: nothing to tune, and zero only between equal
distributions. The self-term of a weighted set is divided by one minus the sum of its squared
shares, so that weights are not punished for leaving fewer effective rows; the plain form is
biased upward by the mean distance divided by the effective sample size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Beyond this many rows a side is subsampled: the cost grows with their square.
MAX_ROWS: Final = 20_000
#: Rows of one block of distances; two blocks of this side are about 64 MB.
_BLOCK: Final = 2_048


@dataclass(frozen=True, slots=True)
class Alignment:
    """Distances of the synthetic set from the real one, in standard deviations a dimension.

    Attributes:
        unweighted: Energy distance with every synthetic row counting the same. An unbiased
            estimate, so two samples of one distribution give about zero, and at times less.
        weighted: The same with the weights.
        gain_error: Standard error of ``unweighted - weighted`` over the real rows.
        n_synthetic: Synthetic rows that were used.
        n_real: Real rows that were used.
    """

    unweighted: float
    weighted: float
    gain_error: float
    n_synthetic: int
    n_real: int

    @property
    def gain(self) -> float:
        """How much nearer the weights bring the synthetic set; negative when they push it away."""
        return self.unweighted - self.weighted


def alignment(
    synthetic: Floats, weights: Floats, real: Floats, *, seed: int = 0, max_rows: int = MAX_ROWS
) -> Alignment | None:
    """Energy distance of the weighted and the unweighted synthetic set from the real one.

    With shares p of the synthetic rows x and q = 1/m of the real rows y, and d the Euclidean
    distance of standardised rows divided by the square root of their length:

        D = 2 sum_ij p_i q_j d(x_i, y_j) - sum_ik p_i p_k d(x_i, x_k) / (1 - sum_i p_i^2)
                                         - sum_jl q_j q_l d(y_j, y_l) / (1 - sum_j q_j^2)

    The rows are standardised by mean and deviation of both sets together, unweighted, so the
    yardstick is the same for both distances.

    Args:
        synthetic: Embeddings. Shape (n, d).
        weights: Non-negative weights of the synthetic rows. Shape (n,).
        real: Embeddings. Shape (m, d).
        seed: Draws the subsample, where one is needed.
        max_rows: Rows of either side beyond which a subsample is drawn without replacement.

    Returns:
        None where there is nothing to compare: fewer than two rows on a side, or all of the
        weight on one row.

    Raises:
        DataError: If an embedding is not finite, or the two sides differ in length.

    Reference:
        Szekely and Rizzo, Energy statistics, J. Stat. Plan. Inference 143, 2013; weighted as in
        Huling and Mak, Energy balancing of covariate distributions, arXiv 2004.13962.
    """
    if synthetic.shape[1:] != real.shape[1:]:
        message = f"embeddings have the shapes {synthetic.shape} and {real.shape}; rows must match."
        raise DataError(message)
    rng = np.random.default_rng(seed)
    kept, kept_real = _some(len(synthetic), max_rows, rng), _some(len(real), max_rows, rng)
    synthetic, weights, real = synthetic[kept], weights[kept], real[kept_real]
    if min(len(synthetic), len(real)) < 2 or np.count_nonzero(weights) < 2:
        return None
    if not (np.isfinite(synthetic).all() and np.isfinite(real).all()):
        message = "an embedding holds a value that is not a finite number."
        raise DataError(message, hint="Check the model: it gave NaN or infinity for a row.")
    synthetic, real = _standardised(synthetic, real)
    uniform = np.full(len(synthetic), 1.0 / len(synthetic))
    shares = np.stack([uniform, weights / weights.sum()], axis=1)  # (n, 2)
    to_real = mean_distances(synthetic, shares, real)  # (m, 2)
    inside = _self_terms(synthetic, shares)  # (2,)
    inside_real = _self_terms(real, np.full((len(real), 1), 1.0 / len(real)))  # (1,)
    unweighted, weighted = 2.0 * to_real.mean(axis=0) - inside - inside_real
    pulls = 2.0 * (to_real[:, 0] - to_real[:, 1])  # one real row's part of the gain
    return Alignment(
        unweighted=float(unweighted),
        weighted=float(weighted),
        gain_error=float(pulls.std(ddof=1) / np.sqrt(len(real))),
        n_synthetic=len(synthetic),
        n_real=len(real),
    )


def mean_distances(x: Floats, shares: Floats, y: Floats) -> Floats:
    """Weighted mean distance from all of ``x`` to each row of ``y``, a block at a time.

    Args:
        x: Rows. Shape (n, d).
        shares: Columns that each sum to one. Shape (n, k).
        y: Rows. Shape (m, d).

    Returns:
        sum_i shares_ik |x_i - y_j| / sqrt(d). Shape (m, k).
    """
    found = np.zeros((len(y), shares.shape[1]))
    for rows in _blocks(len(y)):
        for columns in _blocks(len(x)):
            found[rows] += _distances(y[rows], x[columns]) @ shares[columns]
    return found


def _self_terms(x: Floats, shares: Floats) -> Floats:
    """Mean distance of two different rows drawn by their shares. Shape (k,)."""
    pairs = np.zeros(shares.shape[1])
    for at, rows in enumerate(_blocks(len(x))):
        for columns in _blocks(len(x))[at:]:
            both_ways = 1.0 if columns == rows else 2.0  # d is symmetric: half of it is enough
            inside = _distances(x[rows], x[columns]) @ shares[columns]
            pairs += both_ways * (shares[rows] * inside).sum(axis=0)
    pairs /= 1.0 - (shares * shares).sum(axis=0)
    return pairs


def _distances(x: Floats, y: Floats) -> Floats:
    """|x_i - y_j| / sqrt(d). Shape (n, m)."""
    squared = x @ y.T
    squared *= -2.0
    squared += (x * x).sum(axis=1)[:, None]
    squared += (y * y).sum(axis=1)
    np.maximum(squared, 0.0, out=squared)  # rounding can take a tiny square below zero
    squared /= x.shape[1]
    found: Floats = np.sqrt(squared, out=squared)
    return found


def _blocks(n: int) -> list[slice]:
    """The rows in blocks."""
    return [slice(at, at + _BLOCK) for at in range(0, n, _BLOCK)]


def _standardised(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Both sets with mean zero and deviation one a dimension; a constant dimension becomes zero."""
    both = np.concatenate([x, y]).astype(np.float64)
    deviation = both.std(axis=0)
    scaled = (both - both.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled[: len(x)], scaled[len(x) :]


def _some(n: int, limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of all rows, or of a random ``limit`` of them in their order."""
    return np.arange(n) if n <= limit else np.sort(rng.choice(n, size=limit, replace=False))

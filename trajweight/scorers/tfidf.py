"""Grams as rows of TF-IDF, sparse and of length one, and logistic regression on them.

value = (1 + log count) (1 + log((1 + n) / (1 + n with the gram))), then rows to length one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.scorers.grams import Grams

    Floats = NDArray[np.float64]


def tf_idf(grams: Grams, *, n_terms: int | None = None) -> Any:
    """TF-IDF of every text; all zeros for one without words.

    Args:
        grams: Of n texts.
        n_terms: How many grams are looked at: those that most texts have. All by default.

    Returns:
        A scipy matrix in rows. Shape (n, number of grams).
    """
    from scipy import sparse  # a part of a second to load

    ones, shape = np.ones(len(grams.rows)), (grams.n_texts, grams.n_kinds)
    values = sparse.coo_array((ones, (grams.rows, grams.kinds)), shape=shape).tocsr()
    n_with = np.bincount(values.indices, minlength=grams.n_kinds)
    if n_terms is not None and n_terms < grams.n_kinds:
        kept = np.sort(np.argsort(-n_with, kind="stable")[:n_terms])
        values, n_with = values[:, kept], n_with[kept]
    rarity = 1.0 + np.log((1 + grams.n_texts) / (1 + n_with))
    values.data = (1.0 + np.log(values.data)) * rarity[values.indices]
    lengths = np.sqrt(values.multiply(values).sum(axis=1))  # (n,)
    values.data /= np.repeat(lengths, np.diff(values.indptr))
    return values


def fitted_logistic(matrix: Any, is_positive: NDArray[np.bool_], *, penalty: float) -> Floats:
    """Logistic regression in which both classes count alike: slopes, then the intercept.

    The least of sum_i s_i log(1 + exp(-y_i f_i)) + penalty |slopes|^2 / 2 with f = X slopes +
    intercept, y = 1 or -1, and s = n / (2 n_class).

    Args:
        matrix: X, dense or sparse. Shape (n, d).
        is_positive: The class; both are there. Shape (n,).
        penalty: Above zero.

    Returns:
        Shape (d + 1,).
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    y = np.where(is_positive, 1.0, -1.0)
    shares = np.where(is_positive, is_positive.mean(), 1.0 - is_positive.mean())
    counts = 0.5 / shares  # s, (n,)

    def loss(all_of: Floats) -> tuple[float, Floats]:
        slopes, intercept = all_of[:-1], all_of[-1]
        margins = y * (matrix @ slopes + intercept)  # (n,)
        value = counts @ np.logaddexp(0.0, -margins) + penalty * (slopes @ slopes) / 2
        pulls = -counts * y * expit(-margins)  # (n,)
        return float(value), np.append(matrix.T @ pulls + penalty * slopes, pulls.sum())

    start = np.zeros(matrix.shape[1] + 1)
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-6}
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found

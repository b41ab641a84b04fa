"""Can a classifier tell the weighted synthetic rows from the real ones?

Logistic regression on the principal components of the embeddings, fitted without the rows it
judges. The better it tells them apart, the further apart they are; where it fails they may still
differ in a way that it does not see, so it bounds their distance from below and never from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.chance import Comparison, compare
from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Principal components that the classifier sees.
COMPONENTS: Final = 32
FOLDS: Final = 5
#: Half of it times the squared slopes is added to the mean loss.
RIDGE: Final = 0.01
_MAX_STEPS: Final = 100
_TOLERANCE: Final = 1e-8
_ROUNDING: Final = 1e-15
#: A step that had to be cut to this part is not taken at all.
_SHORTEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class TwoSample(Facts):
    """How well a classifier tells synthetic from real rows.

    Attributes:
        auc: Chance that a real row looks more real than a synthetic one, both drawn by their
            weights inside of one fold; 0.5 where it cannot tell.
        proxy_distance: 2 (1 - 2 error), the error taken with as much mass on either side; about 0
            or below where it cannot tell, 2 where it never errs. Half of it estimates a lower
            bound of the total variation between the two sets.
        n_components: Principal components that the classifier saw.
        n_folds: Folds that had rows of both sides.
        n_tasks: Tasks; rows of one never stand in two folds.
    """

    auc: Comparison
    proxy_distance: Comparison
    n_components: int
    n_folds: int
    n_tasks: int


def two_sample(
    x: Floats, shares: Floats, y: Floats, *, tasks: Ints, folds: int = FOLDS, seed: int = 0
) -> TwoSample | None:
    """The classifier two-sample test, cross-fitted by task, for every column of shares.

    In every fold both sides have half of the mass, so that an uneven split says nothing.

    Args:
        x: Synthetic rows, as `discrepancy.standardised` gives them. Shape (n, d).
        shares: The columns of `chance.share_columns`. Shape (n, k).
        y: Real rows. Shape (m, d).
        tasks: The task of every synthetic row, then of every real one. Shape (n + m,).
        folds: At most; no more than tasks with real rows.
        seed: Of the folds.

    Returns:
        None where fewer than two folds have rows of both sides.

    Reference:
        Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017; Ben-David et al.,
        A theory of learning from different domains, Mach. Learn. 79, 2010, section 4 (proxy).
    """
    is_real = np.arange(len(x) + len(y)) >= len(x)
    folds = min(folds, len(np.unique(tasks[is_real])))
    fold = task_folds(tasks, is_real, folds=folds, seed=seed)
    sides = [(fold == each) & is_real for each in range(folds)]
    judging = [k for k in range(folds) if sides[k].any() and ((fold == k) & ~is_real).any()]
    if len(judging) < 2:
        return None
    seen = principal_components(np.concatenate([x, y]), COMPONENTS)
    masses = np.concatenate([shares, np.full((len(y), shares.shape[1]), 1.0 / len(y))])
    told = np.zeros((3, shares.shape[1]))  # pairs, pairs in the right order, correct minus wrong
    for each in judging:
        held = fold == each
        slopes = fit_logistic(seen[~held], _balanced(masses[~held], is_real[~held]), is_real[~held])
        scores = seen[held] @ slopes[1:] + slopes[0]
        told += _judged(scores, masses[held], is_real[held])
    return TwoSample(
        auc=compare(told[1] / told[0]),
        proxy_distance=compare(2.0 * told[2] / told[0]),
        n_components=seen.shape[1],
        n_folds=len(judging),
        n_tasks=len(np.unique(tasks)),
    )


def task_folds(tasks: Ints, is_real: NDArray[np.bool_], *, folds: int, seed: int) -> Ints:
    """The fold of every row: tasks are kept whole, real rows and then all rows spread evenly.

    Args:
        tasks: The task of every row. Shape (n,).
        is_real: Whether the row is a real one. Shape (n,).
        folds: How many.
        seed: Of the order in which tasks of one size are placed.
    """
    _, codes = np.unique(tasks, return_inverse=True)
    real, all_rows = np.bincount(codes, weights=is_real), np.bincount(codes)
    order = np.random.default_rng(seed).permutation(len(real))
    order = order[np.lexsort((-all_rows[order], -real[order]))]  # large ones first, real before
    filled = np.zeros((folds, 2))
    placed = np.empty(len(real), dtype=np.int64)
    for task in order:
        rank = filled if real[task] else filled[:, ::-1]
        placed[task] = min(range(folds), key=lambda each: tuple(rank[each]))
        filled[placed[task]] += (real[task], all_rows[task])
    return placed[codes]


def principal_components(rows: Floats, most: int) -> Floats:
    """The leading principal components, each with deviation one; none that is only rounding.

    Args:
        rows: Rows. Shape (n, d).
        most: Components at most.

    Returns:
        Shape (n, k), k at most n - 1, d and ``most``.
    """
    centred = rows - rows.mean(axis=0)
    variances, basis = np.linalg.eigh(centred.T @ centred / len(rows))  # ascending
    kept = max(min(most, len(rows) - 1), 0)
    variances, basis = variances[::-1][:kept], basis[:, ::-1][:, :kept]
    real = variances > 1e-10 * max(float(variances.max(initial=0.0)), 1e-300)
    found: Floats = centred @ basis[:, real] / np.sqrt(variances[real])
    return found


def fit_logistic(
    rows: Floats, masses: Floats, labels: NDArray[np.bool_], *, ridge: float = RIDGE
) -> Floats:
    """Logistic regressions that differ in the masses of their rows only, all at once.

    Minimises sum_i m_i ln(1 + exp(-t_i (b_0 + b x_i))) + ridge |b|^2 / 2 with t = +1 or -1, by
    Newton steps, halved where they overshoot. The Hessians of all columns are one product.

    Args:
        rows: Shape (n, d).
        masses: Columns that each sum to one. Shape (n, k).
        labels: Which rows are to score high. Shape (n,).
        ridge: Above zero; the constant is not shrunk.

    Returns:
        The constant, then the slopes, of every column. Shape (1 + d, k).
    """
    design = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    upper = np.triu_indices(design.shape[1])
    products = design[:, upper[0]] * design[:, upper[1]]
    shrink = np.full((design.shape[1], 1), ridge)
    shrink[0] = 0.0
    sign = np.where(labels, -1.0, 1.0)[:, None]
    slopes = np.zeros((design.shape[1], masses.shape[1]))
    hessians = np.empty((masses.shape[1], design.shape[1], design.shape[1]))

    def loss(at: Floats) -> Floats:
        found: Floats = (masses * np.logaddexp(0.0, sign * (design @ at))).sum(axis=0)
        found += 0.5 * (shrink * at * at).sum(axis=0)
        return found

    value = loss(slopes)
    for _ in range(_MAX_STEPS):
        wrong = _sigmoid(sign * (design @ slopes))
        gradient = design.T @ (masses * sign * wrong) + shrink * slopes
        if float(np.abs(gradient).max(initial=0.0)) < _TOLERANCE:
            break
        curved = (masses * wrong * (1.0 - wrong)).T @ products
        hessians[:, upper[0], upper[1]] = hessians[:, upper[1], upper[0]] = curved
        hessians += np.diag(shrink[:, 0] + 1e-12)
        step = np.linalg.solve(hessians, gradient.T[:, :, None])[:, :, 0].T
        slopes, value = _descended(loss, slopes, np.asarray(step, dtype=np.float64), value)
    return slopes


def weighted_auc(high: Floats, high_masses: Floats, low: Floats, low_masses: Floats) -> float:
    """Mass of the pairs in which the first scores higher, ties counting half, over all pairs.

    Args:
        high: Scores of those that should be high. Shape (n,).
        high_masses: Their masses. Shape (n,).
        low: Scores of the others. Shape (m,).
        low_masses: Their masses. Shape (m,).

    Example:
        >>> weighted_auc(np.array([2.0]), np.ones(1), np.array([1.0, 3.0]), np.array([3.0, 1.0]))
        0.75
    """
    order = np.argsort(low, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(low_masses[order])])
    first, last = (np.searchsorted(low[order], high, side=side) for side in ("left", "right"))
    won = float(high_masses @ (below[first] + below[last])) / 2.0
    return won / float(high_masses.sum() * low_masses.sum())


def _descended(
    loss: Callable[[Floats], Floats], slopes: Floats, step: Floats, value: Floats
) -> tuple[Floats, Floats]:
    """Every column after its step, halved until its loss does not rise, and the losses there."""
    length = np.ones(slopes.shape[1])
    while True:
        there = slopes - length * step
        reached = loss(there)
        rises = reached > value + _ROUNDING
        if not rises.any():
            return there, reached
        length = np.where(rises, np.where(length > _SHORTEST, 0.5 * length, 0.0), length)


def _balanced(masses: Floats, is_real: NDArray[np.bool_]) -> Floats:
    """Half of the mass on either side, in every column."""
    found = np.empty_like(masses)
    for side in (is_real, ~is_real):
        found[side] = 0.5 * masses[side] / np.maximum(masses[side].sum(axis=0), 1e-300)
    return found


def _judged(scores: Floats, masses: Floats, is_real: NDArray[np.bool_]) -> Floats:
    """Mass of all pairs, of those in the right order, and of them times 1 - 2 error: (3, k)."""
    real, synthetic = masses[is_real], masses[~is_real]
    pairs = real.sum(axis=0) * synthetic.sum(axis=0)
    right = np.zeros(len(pairs))
    for column in np.flatnonzero(pairs > 0):
        right[column] = pairs[column] * weighted_auc(
            scores[is_real, column], real[:, column], scores[~is_real, column], synthetic[:, column]
        )
    called = np.sign(scores)  # a score of zero is half an error on either side
    correct = (real * called[is_real]).sum(axis=0) * synthetic.sum(axis=0)
    correct -= (synthetic * called[~is_real]).sum(axis=0) * real.sum(axis=0)
    return np.stack([pairs, right, correct / 2.0])


def _sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    found: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))
    return found

"""How well a score tells good rows from bad ones: AUROC, average precision, ranking inside tasks.

All three see only the order of the scores, and let equal scores share their place, so that the
order of the rows never matters. Rows carry counts, so that a resample costs no new sort.

Reference:
    Mann and Whitney, 1947, and Hanley and McNeil, Radiology 143, 1982 (AUROC as a share of pairs);
    Buckley and Voorhees, SIGIR 2000 (average precision).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.analysis.ranks import ordered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.analysis.ranks import Ordered

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TaskAreas:
    """The AUROC inside each task that has rows of both kinds.

    Attributes:
        tasks: Codes of these tasks, rising. Shape (t,).
        areas: Their AUROC. Shape (t,).
        pairs: Pairs of a good and a bad row in each. Shape (t,).
    """

    tasks: Ints
    areas: Floats
    pairs: Floats


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows put in order by one score: a resample of them costs no new sort.

    Attributes:
        order: Over all rows.
        inside: The AUROC inside each task.
    """

    order: Ordered
    inside: TaskAreas

    def measures(self, counts: Floats, good: Bools, of_task: Floats) -> Floats:
        """AUROC, average precision and mean AUROC inside tasks, for the score and for its negative.

        Args:
            counts: How often each row counts, a resample a line. Shape (k, n).
            good: Which rows are good. Shape (n,).
            of_task: How often each task counts. Shape (k, t), by code.

        Returns:
            NaN where a measure does not exist. Shape (k, 6), the negative's three last.
        """
        n_good, n_all = self.order.sums(counts * good), self.order.sums(counts)  # (k, g)
        area = _area(n_good, n_all)
        often = of_task[:, self.inside.tasks]
        within = _ratio(often @ self.inside.areas, often.sum(axis=1))
        upward, downward = (
            _precision(*sides)
            for sides in ((n_good[:, ::-1], n_all[:, ::-1]), (n_good, n_all))  # best score first
        )
        return np.stack([area, upward, within, 1.0 - area, downward, 1.0 - within], axis=1)


def auroc(scores: Floats, good: Bools) -> float | None:
    """The share of pairs of a good and a bad row in which the good one has the higher score.

        AUROC = (pairs won + pairs tied / 2) / (n_good n_bad)

    Args:
        scores: Finite. Shape (n,).
        good: Which rows are good. Shape (n,).

    Returns:
        1/2 is what luck gives; None unless there are rows of both kinds.

    Example:
        >>> auroc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
        0.875
    """
    return _measured(scores, good)[0]


def average_precision(scores: Floats, good: Bools) -> float | None:
    """Precision among the rows at least as high as each good row, averaged over the good rows.

        AP = sum_k (R_k - R_{k-1}) P_k

    over the distinct scores from the highest down, for P_k and R_k the precision and the recall of
    the rows with that score or a higher one. Luck gives about the share of good rows.

    Args:
        scores: Finite. Shape (n,).
        good: Which rows are good. Shape (n,).

    Returns:
        None unless there are rows of both kinds.

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, False]))
        1.0
    """
    return _measured(scores, good)[1]


def areas_by_task(scores: Floats, good: Bools, tasks: Ints) -> TaskAreas:
    """The AUROC inside each task, where how hard a task is plays no part.

    Args:
        scores: Finite. Shape (n,).
        good: Which rows are good. Shape (n,).
        tasks: Codes of the rows' tasks, in any numbers. Shape (n,).
    """
    if len(scores) == 0:
        return TaskAreas(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    names, task = np.unique(tasks, return_inverse=True)
    found = scored(scores, good, task).inside
    return TaskAreas(names[found.tasks], found.areas, found.pairs)


def scored(scores: Floats, good: Bools, task: Ints) -> Scored:
    """Put rows in order, over all and inside their tasks.

    Args:
        scores: Finite, at least one. Shape (n,).
        good: Which rows are good. Shape (n,).
        task: Codes of the rows' tasks, from 0 on. Shape (n,).
    """
    order = ordered(scores)
    # Runs of equal scores inside each task, by task and then by score.
    cells, cell = np.unique(task * len(order.starts) + order.run, return_inverse=True)
    task_of_cell = cells // len(order.starts)
    n_all = np.bincount(cell).astype(np.float64)
    n_good = np.bincount(cell, good, minlength=len(cells))
    n_bad = n_all - n_good
    through = np.cumsum(n_bad)
    starts = np.flatnonzero(np.diff(task_of_cell, prepend=-1))
    before_task = (through - n_bad)[starts][task_of_cell]
    won = n_good * (through - before_task - n_bad / 2.0)
    won_of, good_of, bad_of = (np.bincount(task_of_cell, part) for part in (won, n_good, n_bad))
    pairs = (good_of * bad_of).astype(np.float64)
    mixed = np.flatnonzero(pairs)
    return Scored(order, TaskAreas(mixed, won_of[mixed] / pairs[mixed], pairs[mixed]))


def _measured(scores: Floats, good: Bools) -> tuple[float | None, float | None]:
    """AUROC and average precision, each row counted once."""
    if good.all() or not good.any():
        return None, None
    order, ones = ordered(scores), np.ones((1, len(scores)))
    n_good, n_all = order.sums(ones * good), order.sums(ones)
    return (
        float(_area(n_good, n_all)[0]),
        float(_precision(n_good[:, ::-1], n_all[:, ::-1])[0]),
    )


def _area(n_good: Floats, n_all: Floats) -> Floats:
    """AUROC from counts by rising score: (k, g) to (k,)."""
    n_bad = n_all - n_good
    won = (n_good * (np.cumsum(n_bad, axis=1) - n_bad / 2.0)).sum(axis=1)
    return _ratio(won, n_good.sum(axis=1) * n_bad.sum(axis=1))


def _precision(n_good: Floats, n_all: Floats) -> Floats:
    """Average precision from counts by falling score: (k, g) to (k,)."""
    n_above, good_above = np.cumsum(n_all, axis=1), np.cumsum(n_good, axis=1)
    of_good, of_all = good_above[:, -1].copy(), n_above[:, -1]
    good_above /= np.maximum(n_above, 1.0)  # where nothing is above yet, nothing good is either
    found = np.einsum("kg,kg->k", n_good, good_above)
    return _ratio(found, np.where(of_good < of_all, of_good, 0.0))


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotient, NaN where there is nothing to divide by."""
    missing = np.full_like(above, np.nan)
    found: Floats = np.divide(above, below, out=missing, where=below > 0)
    return found

"""Intervals by drawing tasks again, with replacement, since rows of one task are not independent.

Rank statistics have no simple error when rows come in tasks, but they can be computed again on
tasks drawn anew (the cluster bootstrap). Of a large table a part is drawn first, in whole tasks,
and each resample draws as many tasks as the whole table has from that part alone: the spread is
then that of the whole table, at the cost of the part (the bag of little bootstraps with one bag).

A value v between a and b has the interval

    g^-1( g(v) -+ T s )        g(v) = ln((v - a) / (b - v))

for s the standard deviation of g over the resamples, times sqrt(t / (t - 1)), and T Student's
quantile with t - 1 degrees of freedom for t tasks. So it never leaves [a, b], and is skew near an
end, where plain percentiles are too short: in simulations with 12 and 40 tasks those held the true
AUROC in 86 to 95 of 100 cases, and these in 94 to 98. For a correlation g is Fisher's.

Reference:
    Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69, 2007;
    Kleiner et al., A scalable bootstrap for massive data, J. R. Stat. Soc. B 76, 2014;
    Pepe, The statistical evaluation of medical tests, 2003, chapter 5 (AUROC on this scale).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    #: Counts of the rows, a resample a line (k, m), to the values of s statistics (k, s).
    Statistic = Callable[[Floats], Floats]

#: How often an interval holds the truth, where its assumptions do.
LEVEL: Final = 0.95
#: Resamples; 400 know a standard deviation to 3.5 %.
REPLICATES: Final = 400
#: Beyond this many rows a part of the tasks is drawn first.
MAX_ROWS: Final = 6_000
#: With fewer tasks the spread over resamples says too little; then no interval is given.
MIN_TASKS: Final = 10
#: Tasks that a part keeps, even if their rows have to be thinned; 60 know their own spread to 9 %.
_LEAST_TASKS: Final = 60
#: An interval needs this share of resamples in which the statistic exists.
_LEAST_DEFINED: Final = 0.95
#: A deviation below this is rounding.
_ROUNDING: Final = 1e-9
#: Counts of one block of resamples; 16 MB.
_BLOCK: Final = 2_000_000
BY_TASK: Final = "bootstrap by task"


@dataclass(frozen=True, slots=True)
class Interval(Facts):
    """Where the true value lies, as far as these rows can tell.

    Attributes:
        low: Lower end.
        high: Upper end.
        method: How it was found.
    """

    low: float
    high: float
    method: str


@dataclass(frozen=True, slots=True)
class Resampling(Facts):
    """How a bootstrap was made.

    Attributes:
        n_rows: Rows that the statistics are about.
        n_tasks: Their tasks.
        n_rows_used: Rows that were drawn from; fewer than ``n_rows`` where a part had to do.
        n_tasks_used: Their tasks.
        replicates: Resamples.
        seed: Of the draws.
        level: How often an interval is to hold the truth.
    """

    n_rows: int
    n_tasks: int
    n_rows_used: int
    n_tasks_used: int
    replicates: int
    seed: int
    level: float


@dataclass(frozen=True, slots=True)
class TaskBootstrap:
    """Tasks drawn again and again; the same draws serve all statistics of one table.

    Attributes:
        rows: Rows that are drawn from, by their place in the table. Shape (m,).
        task: The task of each of them, from 0 on. Shape (m,).
        counts: How often each resample drew each task. Shape (r, t).
        about: How it was made.
    """

    rows: Ints
    task: Ints
    counts: Ints
    about: Resampling

    def replicates(self, statistic: Statistic) -> Floats:
        """Statistics on every resample, NaN where one does not exist: (r, s).

        Args:
            statistic: Of the rows ``rows``, given how often each of them counts.
        """
        size = max(1, _BLOCK // len(self.rows))
        return np.concatenate(
            [
                statistic(self.counts[at : at + size, self.task].astype(np.float64))
                for at in range(0, len(self.counts), size)
            ]
        )

    def interval(
        self,
        value: float | None,
        drawn: Floats,
        *,
        least: float,
        most: float,
        n_tasks: int | None = None,
    ) -> Interval | None:
        """The interval of one statistic.

        Args:
            value: The statistic on all rows of the table; None where it does not exist.
            drawn: The statistic on each resample, NaN where it does not exist. Shape (r,).
            least: The smallest value the statistic can have.
            most: The greatest.
            n_tasks: Tasks that have a say in the statistic; all of them when not given.

        Returns:
            None where nothing can be said: no value, too few tasks, too many resamples in which
            the statistic does not exist, or all of them the same.
        """
        kept = drawn[np.isfinite(drawn)]
        n_tasks = self.about.n_tasks if n_tasks is None else n_tasks
        if value is None or n_tasks < MIN_TASKS or len(kept) < _LEAST_DEFINED * len(drawn):
            return None
        # An end is as far away as half a row can bring a value.
        edge = 0.5 / len(self.rows)

        def g(values: Floats) -> Floats:
            part = np.clip((values - least) / (most - least), edge, 1.0 - edge)
            return np.log(part) - np.log1p(-part)

        deviation = float(g(kept).std(ddof=1)) * math.sqrt(n_tasks / (n_tasks - 1))
        if deviation < _ROUNDING:
            return None
        far = student(n_tasks) * deviation
        middle = float(g(np.array(value)))
        low, high = (
            least + (most - least) / (1.0 + math.exp(-min(max(end, -700.0), 700.0)))
            for end in (middle - far, middle + far)
        )
        return Interval(min(low, value), max(high, value), BY_TASK)


def bootstrap_by_task(
    tasks: Ints, *, seed: int = 0, replicates: int = REPLICATES, max_rows: int = MAX_ROWS
) -> TaskBootstrap:
    """Draw the tasks of a table again, with replacement.

    Args:
        tasks: Codes of the tasks, in any numbers; at least one row. Shape (n,).
        seed: Of the draws.
        replicates: Resamples.
        max_rows: Beyond this many rows a part is drawn first: whole tasks, and where a task is so
            large that too few tasks would be left, a part of its rows (which makes intervals
            wider, never narrower).
    """
    rng = np.random.default_rng(seed)
    _, task = np.unique(tasks, return_inverse=True)
    n_tasks = int(task.max()) + 1
    rows = _part(task, n_tasks, max_rows, rng)
    _, used = np.unique(task[rows], return_inverse=True)
    n_used = int(used.max()) + 1
    counts = rng.multinomial(n_tasks, np.full(n_used, 1.0 / n_used), size=replicates)
    about = Resampling(len(tasks), n_tasks, len(rows), n_used, replicates, seed, LEVEL)
    return TaskBootstrap(rows, used, counts, about)


def _part(task: Ints, n_tasks: int, max_rows: int, rng: np.random.Generator) -> Ints:
    """All rows, or those of some tasks, and of these tasks no more than their part of the rows."""
    n = len(task)
    if n <= max_rows:
        return np.arange(n)
    n_kept = min(n_tasks, max(_LEAST_TASKS, max_rows * n_tasks // n))
    kept = np.zeros(n_tasks, dtype=bool)
    kept[rng.choice(n_tasks, size=n_kept, replace=False)] = True
    rows = np.flatnonzero(kept[task])
    if len(rows) <= 2 * max_rows:
        return rows
    # A random place inside its task decides whether a row stays.
    shuffled = rng.permutation(rows)
    by_task = shuffled[np.argsort(task[shuffled], kind="stable")]
    starts = np.flatnonzero(np.diff(task[by_task], prepend=-1))
    sizes = np.diff(starts, append=len(by_task))
    place = np.arange(len(by_task)) - np.repeat(starts, sizes)
    return np.sort(by_task[place < max(1, max_rows // n_kept)])


def student(n: int) -> float:
    """How many standard errors an interval reaches to either side, for ``n`` units."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1.0 + LEVEL) / 2.0))

"""How the weights go with other columns, each with an interval, and with length held fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.correlations import (
    fisher_interval,
    rank_statistic,
    spearman_of_ranks,
    tau_statistic,
)
from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import floats_of, tasks_of
from trajweight.analysis.ranks import average_ranks
from trajweight.analysis.resampling import Interval, Resampling, bootstrap_by_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from trajweight.analysis.resampling import Statistic, TaskBootstrap

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

#: Rows of a bootstrap of Kendall's tau, whose cost grows with their square.
MAX_ROWS_OF_TAU: Final = 2_000


@dataclass(frozen=True, slots=True)
class Coefficient(Facts):
    """A rank correlation with what is known of its error.

    Attributes:
        value: From -1 to 1; None where a side is constant or too few rows count.
        interval: By drawing tasks again; None where too few tasks say anything.
        fisher: By Fisher's transformation, as if rows were independent: too narrow where rows
            share tasks.
        resampling: How ``interval`` was made; None where there is no value.
    """

    value: float | None
    interval: Interval | None
    fisher: Interval | None
    resampling: Resampling | None


@dataclass(frozen=True, slots=True)
class Association(Facts):
    """How the weight goes with one column.

    Attributes:
        column: The column.
        n: Rows that count: those where both values are finite numbers.
        spearman: Pearson's correlation of average ranks.
        kendall: Kendall's tau-b: pairs of rows in the same order less those in the opposite one,
            over the pairs without ties.
        given: The column that is partialled out; None where it is the column itself or unknown.
        partial: Spearman's correlation with ``given`` held fixed, over the rows that have all
            three; None where there is no ``given``.
    """

    column: str
    n: int
    spearman: Coefficient
    kendall: Coefficient
    given: str | None
    partial: Coefficient | None


def associations(
    table: pl.DataFrame,
    columns: Sequence[str],
    *,
    given: str | None = "n_tokens",
    task: str = "task_id",
    seed: int = 0,
) -> list[Association]:
    """How ``weight`` goes with each of the columns, with intervals.

    Args:
        table: One row a trajectory, with ``weight`` and the columns.
        columns: Numeric columns; nulls and numbers that are not finite do not count.
        given: The column to partial out, where the table has it.
        task: Name of the column of tasks; without it each row is its own task.
        seed: Of the bootstrap.
    """
    names = {"weight", *columns} | ({given} & set(table.columns))
    values = {name: floats_of(table, name) for name in names if name is not None}
    tasks = tasks_of(table, task)
    samples: dict[bytes, _Sample] = {}

    def sample(*columns: str) -> _Sample:
        """The rows that have all of these; columns with the same gaps share their draws."""
        kept = np.all([np.isfinite(values[name]) for name in columns], axis=0)
        key = np.packbits(kept).tobytes()
        if key not in samples:
            samples[key] = _Sample(values, kept, tasks[kept], seed)
        return samples[key]

    found = []
    for column in columns:
        both, partial = sample("weight", column), None
        if given is not None and given in values and column != given:
            partial = sample("weight", column, given).spearman("weight", column, given)
        found.append(
            Association(
                column=column,
                n=len(both.tasks),
                spearman=both.spearman("weight", column),
                kendall=both.kendall("weight", column),
                given=None if partial is None else given,
                partial=partial,
            )
        )
    return found


def rank_correlation(x: Floats, y: Floats, *, tasks: Ints, seed: int = 0) -> Coefficient:
    """Spearman's correlation of two columns of finite numbers, with intervals.

    Args:
        x: One column. Shape (n,).
        y: The other. Shape (n,).
        tasks: Code of each row's task. Shape (n,).
        seed: Of the bootstrap.
    """
    sample = _Sample({"x": x, "y": y}, np.ones(len(x), dtype=np.bool_), tasks, seed)
    return sample.spearman("x", "y")


_NOTHING: Final = Coefficient(None, None, None, None)


def _interval(value: float, drawing: TaskBootstrap, statistic: Statistic) -> Interval | None:
    return drawing.interval(value, drawing.replicates(statistic)[:, 0], least=-1.0, most=1.0)


class _Sample:
    """The rows that have all columns in question; sorts, and draws of tasks, are made once."""

    def __init__(self, values: Mapping[str, Floats], kept: Bools, tasks: Ints, seed: int) -> None:
        """Nothing is sorted or drawn before it is asked for."""
        self.values, self.kept, self.tasks, self.seed = values, kept, tasks, seed
        self._ranks: dict[str, Floats] = {}

    @cached_property
    def drawing(self) -> TaskBootstrap:
        """For Spearman's correlation."""
        return bootstrap_by_task(self.tasks, seed=self.seed)

    @cached_property
    def drawing_of_pairs(self) -> TaskBootstrap:
        """For Kendall's tau."""
        return bootstrap_by_task(self.tasks, seed=self.seed, max_rows=MAX_ROWS_OF_TAU)

    def spearman(self, *names: str) -> Coefficient:
        """Of the first two columns, a third one partialled out where there is one."""
        n, n_given = len(self.tasks), len(names) - 2
        if n < 3 + n_given:
            return _NOTHING
        sides = [self._ranked(name)[None] for name in names]
        value = float(spearman_of_ranks(sides, np.ones((1, n)))[0, 0])
        if not math.isfinite(value):
            return _NOTHING
        rows = self.drawing.rows
        statistic = rank_statistic([self.values[name][self.kept][rows] for name in names])
        return Coefficient(
            value,
            _interval(value, self.drawing, statistic),
            fisher_interval(value, n, n_given=n_given),
            self.drawing.about,
        )

    def kendall(self, x_name: str, y_name: str) -> Coefficient:
        """Tau-b of two columns."""
        from scipy.stats import kendalltau

        x, y = (self.values[name][self.kept] for name in (x_name, y_name))
        if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return _NOTHING
        value = float(np.clip(kendalltau(x, y, method="asymptotic").statistic, -1.0, 1.0))
        rows = self.drawing_of_pairs.rows
        return Coefficient(
            value,
            _interval(value, self.drawing_of_pairs, tau_statistic(x[rows], y[rows])),
            fisher_interval(value, len(x), kind="kendall"),
            self.drawing_of_pairs.about,
        )

    def _ranked(self, name: str) -> Floats:
        """Average ranks less their mean."""
        if name not in self._ranks:
            ranks = average_ranks(self.values[name][self.kept])
            self._ranks[name] = ranks - (len(ranks) + 1.0) / 2.0
        return self._ranks[name]

"""How many trajectories still count: effective sample size, overall, by group and along training.

With shares p_i = w_i / sum w of the mass:

    Kish          1 / sum p_i^2              what the variance of a weighted mean feels
    perplexity    exp(-sum p_i ln p_i)       what the entropy says; never less than Kish
    by task       1 / sum P_c^2              P_c the sum of p_i over the rows of task c

The first two count rows as if each brought news of its own. Rows of one task tell much the same,
so what a bound may count on is the third: 5000 rows of 50 tasks are worth 50 at most.

Reference:
    Kish, Survey sampling, 1965; Hill, Diversity and evenness, Ecology 54, 1973 (orders 2 and 1 of
    one family, which is why they are ordered).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import codes_of, tasks_of
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Points kept of a path along training, for a drawing.
MAX_POINTS: Final = 400


@dataclass(frozen=True, slots=True)
class Spread(Facts):
    """How evenly a set of weights is spread.

    Attributes:
        n: Number of weights.
        mean: Their mean.
        mass_share: Their sum over the sum of the whole set they are part of, 0 to 1.
        ess: Effective sample size, 1 to n; 0 where no weight is above zero.
        ess_fraction: ``ess / n``, 0 to 1.
    """

    n: int
    mean: float
    mass_share: float
    ess: float
    ess_fraction: float


@dataclass(frozen=True, slots=True)
class EffectiveSize(Facts):
    """How much of a set of rows its weights leave, counted in several ways.

    All counts are 0 where no weight is above zero.

    Attributes:
        n: Rows.
        n_zero: Rows of weight zero.
        n_tasks: Tasks of these rows.
        mass_share: The rows' part of the mass of the whole table, 0 to 1.
        kish: Effective rows by Kish: the number of uniform rows that would be worth as much if
            every row brought news of its own.
        kish_fraction: ``kish / n``.
        perplexity: Effective rows by entropy.
        perplexity_fraction: ``perplexity / n``.
        kish_tasks: Effective tasks, each counting by the sum of its weights.
        kish_tasks_uniform: The same if all weights were equal; below ``n_tasks`` where tasks have
            different numbers of rows.
        uniform_rows_of_tasks: The number of uniform rows, in whole tasks drawn from these, that
            would be worth as much if rows of one task brought the same news. The truth lies
            between this and ``kish``; see `uniform_rows`.
    """

    n: int
    n_zero: int
    n_tasks: int
    mass_share: float
    kish: float
    kish_fraction: float
    perplexity: float
    perplexity_fraction: float
    kish_tasks: float
    kish_tasks_uniform: float
    uniform_rows_of_tasks: float


@dataclass(frozen=True, slots=True)
class TrainingPath(Facts):
    """How the effective share of the rows went along the outer steps of one head.

    Attributes:
        member: Which head of an ensemble; 0 where there is one.
        n_steps: Steps that told an effective share.
        steps: Of the points, at most `MAX_POINTS`, the first and the last step among them.
        ess_fractions: ESS/n at these steps, 0 to 1.
        lowest: The least of all steps.
        lowest_at: Its step, the first of several.
        last: After the last step.
    """

    member: int
    n_steps: int
    steps: tuple[int, ...]
    ess_fractions: tuple[float, ...]
    lowest: float
    lowest_at: int
    last: float


def spread(weights: Floats, *, of_mass: float | None = None) -> Spread:
    """The spread of some weights.

    Args:
        weights: Non-negative weights. Shape (n,).
        of_mass: Sum of the whole set; their own sum when not given.
    """
    n, mass = len(weights), float(weights.sum())
    whole = mass if of_mass is None else of_mass
    ess = float(effective_sample_size(weights)) if mass > 0 else 0.0
    return Spread(
        n=n,
        mean=mass / n if n else 0.0,
        mass_share=mass / whole if whole > 0 else 0.0,
        ess=ess,
        ess_fraction=ess / n if n else 0.0,
    )


def spread_by(table: pl.DataFrame, column: str) -> dict[str, Spread]:
    """The spread inside each group, the heaviest mean first, ties by name.

    Args:
        table: A table with ``weight`` (no nulls) and the grouping column.
        column: Name of the grouping column.
    """
    whole = float(table["weight"].sum())
    groups = {
        str(name): spread(group["weight"].to_numpy(), of_mass=whole)
        for (name,), group in table.group_by(column)
    }
    return dict(sorted(groups.items(), key=lambda item: (-item[1].mean, item[0])))


def top_mass(weights: Floats, k: int) -> float:
    """Share of the mass that the ``k`` heaviest weights hold, 0 to 1; 0 where there is no mass.

    Example:
        >>> top_mass(np.array([3.0, 1.0, 0.0, 0.0]), 1)
        0.75
    """
    mass = float(weights.sum())
    return float(np.sort(weights)[::-1][:k].sum()) / mass if mass > 0 else 0.0


def effective_size(weights: Floats, tasks: Ints | None = None) -> EffectiveSize:
    """The effective size of one set of rows.

    Args:
        weights: Non-negative weights. Shape (n,).
        tasks: Codes of the rows' tasks, in any numbers; without them each row is its own task.
            Shape (n,).

    Example:
        >>> found = effective_size(np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 8, 8]))
        >>> round(found.kish, 9), round(found.kish_tasks, 9), found.kish_tasks_uniform
        (3.0, 1.8, 2.0)
    """
    tasks = np.arange(len(weights)) if tasks is None else tasks
    return _effective_sizes(weights, tasks, np.zeros(len(weights), dtype=np.int64), 1)[0]


def effective_size_by(
    table: pl.DataFrame, column: str, *, task: str = "task_id"
) -> dict[str, EffectiveSize]:
    """The effective size inside each group, the heaviest mean first, ties by name.

    Args:
        table: A table with ``weight`` (no nulls) and the grouping column.
        column: Name of the grouping column; rows without a name count toward the mass only.
        task: Name of the column of tasks; without it each row is its own task.
    """
    codes, names = codes_of(table[column])
    weights = table["weight"].to_numpy()
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    found = _effective_sizes(weights, tasks_of(table, task), codes, n_groups)
    named = zip(names, found[: len(names)], strict=True)
    return dict(sorted(named, key=lambda item: (-item[1].mass_share / item[1].n, item[0])))


def uniform_rows(weights: Floats, tasks: Ints, *, intraclass: float) -> float:
    """How many uniform rows, in whole tasks drawn from these, would be worth as much.

    If values of two rows of one task have the correlation r and those of two tasks none, a mean
    with shares p has the variance s^2 v(p), v(p) = (1 - r) sum_i p_i^2 + r sum_c P_c^2. A part of
    the tasks with m of the n rows and equal weights has about v(1/n) n / m, so

        m = n v(1/n) / v(p)

    It is ``kish`` at r = 0 and ``uniform_rows_of_tasks`` at r = 1, and lies between them for all
    other r (numerator and denominator are the same mixture of both cases). More than n rows come
    out where the weights make up for tasks of unequal size.

    Args:
        weights: Non-negative weights, not all zero. Shape (n,).
        tasks: Codes of the rows' tasks, in any numbers. Shape (n,).
        intraclass: The correlation r of two rows of one task, 0 to 1.

    Reference:
        Kish, Survey sampling, 1965 (the design effect of weights and of clusters).
    """
    both = (weights / weights.sum(), np.full(len(weights), 1.0 / len(weights)))
    _, codes = np.unique(tasks, return_inverse=True)
    mine, uniform = (
        (1.0 - intraclass) * float((p * p).sum())
        + intraclass * float((np.bincount(codes, p) ** 2).sum())
        for p in both
    )
    return len(weights) * uniform / mine


def along_training(trace: Sequence[Mapping[str, Any]]) -> list[TrainingPath]:
    """The path of each head of a run, as its trace tells it.

    Args:
        trace: Rows of ``trace.jsonl``: ``step``, ``ess_fraction`` and, with several heads,
            ``member``. Rows without a finite effective share are passed over.

    Returns:
        By member; empty where nothing was told.
    """
    told: dict[int, list[tuple[int, float]]] = {}
    for number, row in enumerate(trace, start=1):
        share = row.get("ess_fraction")
        if isinstance(share, int | float) and math.isfinite(share):
            step = int(row.get("step", number))
            told.setdefault(int(row.get("member", 0)), []).append((step, float(share)))
    return [_path(member, points) for member, points in sorted(told.items())]


def _path(member: int, points: list[tuple[int, float]]) -> TrainingPath:
    """Thinned evenly; what is said of the lowest point counts all of them."""
    n = len(points)
    kept = np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int))
    lowest_at, lowest = min(points, key=lambda point: point[1])
    return TrainingPath(
        member=member,
        n_steps=n,
        steps=tuple(points[place][0] for place in kept),
        ess_fractions=tuple(points[place][1] for place in kept),
        lowest=lowest,
        lowest_at=lowest_at,
        last=points[-1][1],
    )


def _effective_sizes(
    weights: Floats, tasks: Ints, groups: Ints, n_groups: int
) -> list[EffectiveSize]:
    """The effective size of every group at once; ``groups`` are codes below ``n_groups``."""
    n = np.bincount(groups, minlength=n_groups)
    mass = np.bincount(groups, weights, minlength=n_groups)
    whole = float(weights.sum())
    # A task's rows in two groups count as a task of each.
    names, task = np.unique(tasks, return_inverse=True)
    cells, cell = np.unique(groups * len(names) + task, return_inverse=True)
    group_of_cell = cells // max(len(names), 1)
    n_tasks = np.bincount(group_of_cell, minlength=n_groups)
    p = weights / np.where(mass > 0, mass, 1.0)[groups]  # (n,)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    entropy = -np.bincount(groups, p * logs, minlength=n_groups)
    zeros = np.bincount(groups, weights == 0, minlength=n_groups)
    of_tasks = np.bincount(cell, p, minlength=len(group_of_cell))
    of_tasks_uniform = np.bincount(cell, minlength=len(group_of_cell)) / n[group_of_cell]
    squares, task_squares, uniform_squares = (
        np.bincount(at, values * values, minlength=n_groups)
        for at, values in (
            (groups, p),
            (group_of_cell, of_tasks),
            (group_of_cell, of_tasks_uniform),
        )
    )
    found = []
    for at in range(n_groups):
        has_mass = mass[at] > 0
        most = float(n[at] - zeros[at])  # rounding can take an even share a little beyond it
        kish = min(1.0 / float(squares[at]), most) if has_mass else 0.0
        perplexity = min(math.exp(float(entropy[at])), most) if has_mass else 0.0
        kish_tasks = 1.0 / float(task_squares[at]) if has_mass else 0.0
        kish_tasks_uniform = 1.0 / float(uniform_squares[at]) if n[at] else 0.0
        size = int(n[at])
        found.append(
            EffectiveSize(
                n=size,
                n_zero=int(zeros[at]),
                n_tasks=int(n_tasks[at]),
                mass_share=float(mass[at]) / whole if whole > 0 else 0.0,
                kish=kish,
                kish_fraction=kish / size if size else 0.0,
                perplexity=perplexity,
                perplexity_fraction=perplexity / size if size else 0.0,
                kish_tasks=kish_tasks,
                kish_tasks_uniform=kish_tasks_uniform,
                uniform_rows_of_tasks=size * kish_tasks / kish_tasks_uniform if size else 0.0,
            )
        )
    return found

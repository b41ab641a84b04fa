"""The weights as a finder of good rows, beside scores that anybody has for nothing.

A ranking that finds the good rows may only have found the short ones. So whatever is measured of
the weights is measured in the same way, on the same rows, of: short, long, few turns, many turns,
low base loss, high base loss. The lead of the weights over the best of these has an interval. The
best one is chosen on these very rows, which favours the shortcut; so a lead beyond zero stands on
the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.analysis.discrimination import Scored, scored
from trajweight.analysis.facts import Facts
from trajweight.analysis.resampling import Interval, Resampling, bootstrap_by_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from trajweight.analysis.resampling import TaskBootstrap

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

Measure = Literal["auroc", "average_precision", "within_task"]
MEASURES: Final[tuple[Measure, ...]] = ("auroc", "average_precision", "within_task")
WEIGHTS: Final = "weights"
#: A difference below this is rounding.
_ROUNDING: Final = 1e-12
#: By column, what it is called to prefer the rows with more of it, and those with less.
SHORTCUTS: Final = {
    "n_tokens": ("longer", "shorter"),
    "n_turns": ("more turns", "fewer turns"),
    "base_nll": ("high base loss", "low base loss"),
}


@dataclass(frozen=True, slots=True)
class Ranking(Facts):
    """How well one score finds the good rows.

    Attributes:
        score: "weights", or the name of a shortcut.
        auroc: The share of pairs of a good and a bad row that it puts in order; 1/2 is luck.
        auroc_interval: By drawing tasks again, as are the others; None where these say too little.
        average_precision: Mean precision over the good rows; luck gives about their share.
        average_precision_interval: As above.
        within_task: AUROC inside each task with rows of both kinds, each task counting the same;
            None where no task has both.
        within_task_interval: As above.
        pairwise_accuracy: The same with each pair counting the same, so that large tasks count
            for more.
    """

    score: str
    auroc: float
    auroc_interval: Interval | None
    average_precision: float
    average_precision_interval: Interval | None
    within_task: float | None
    within_task_interval: Interval | None
    pairwise_accuracy: float | None


@dataclass(frozen=True, slots=True)
class Lead(Facts):
    """How far the weights are ahead of the best shortcut by one measure.

    Attributes:
        measure: Which.
        shortcut: The best one by this measure; the first of several equal ones.
        difference: Of the weights less that of the shortcut.
        interval: Of the difference, both being computed on the same resamples.
        is_ahead: Whether all of the interval is above zero; None where a difference above zero has
            no interval.
    """

    measure: Measure
    shortcut: str
    difference: float
    interval: Interval | None
    is_ahead: bool | None


@dataclass(frozen=True, slots=True)
class Comparison(Facts):
    """The weights beside the shortcuts.

    Attributes:
        weights: How well the weights find the good rows.
        shortcuts: The same for each shortcut.
        leads: By measure, against the best shortcut; empty where there is none.
        resampling: How the intervals were made.
    """

    weights: Ranking
    shortcuts: tuple[Ranking, ...]
    leads: tuple[Lead, ...]
    resampling: Resampling


def compare(
    weights: Floats, columns: Mapping[str, Floats], good: Bools, tasks: Ints, *, seed: int = 0
) -> Comparison:
    """Rank rows by their weights, and by the columns both ways.

    Args:
        weights: Non-negative. Shape (n,).
        columns: Finite, by a name of `SHORTCUTS`. Each of shape (n,).
        good: Which rows are good; there must be rows of both kinds. Shape (n,).
        tasks: Codes of the rows' tasks. Shape (n,).
        seed: Of the bootstrap.
    """
    _, task = np.unique(tasks, return_inverse=True)
    drawing = bootstrap_by_task(task, seed=seed)
    finders = []
    for name, values in {WEIGHTS: weights, **columns}.items():
        ways = (WEIGHTS,) if name == WEIGHTS else SHORTCUTS[name]
        finders += _finders(ways, values, good, task, drawing)
    rankings = [finder.ranking(drawing) for finder in finders]
    leads = [_lead(place, finders, drawing) for place in range(len(MEASURES))]
    return Comparison(
        weights=rankings[0],
        shortcuts=tuple(rankings[1:]),
        leads=tuple(lead for lead in leads if lead is not None),
        resampling=drawing.about,
    )


@dataclass(frozen=True, slots=True)
class _Finder:
    """A score and its measures, on all rows and on the resamples.

    Attributes:
        name: What it is called.
        values: The measures on all rows; NaN where one does not exist. Shape (3,).
        pairwise: The share of pairs inside tasks that it puts in order; NaN where there are none.
        drawn: The measures on the resamples. Shape (r, 3).
        n_tasks: Tasks that have a say in each measure.
    """

    name: str
    values: Floats
    pairwise: float
    drawn: Floats
    n_tasks: tuple[int, int, int]

    def ranking(self, drawing: TaskBootstrap) -> Ranking:
        """As it is told."""
        intervals = [
            drawing.interval(_known(value), drawn, least=0.0, most=1.0, n_tasks=n_tasks)
            for value, drawn, n_tasks in zip(self.values, self.drawn.T, self.n_tasks, strict=True)
        ]
        return Ranking(
            score=self.name,
            auroc=float(self.values[0]),
            auroc_interval=intervals[0],
            average_precision=float(self.values[1]),
            average_precision_interval=intervals[1],
            within_task=_known(self.values[2]),
            within_task_interval=intervals[2],
            pairwise_accuracy=_known(self.pairwise),
        )


def _finders(
    ways: tuple[str, ...], values: Floats, good: Bools, task: Ints, drawing: TaskBootstrap
) -> list[_Finder]:
    """The finders that one column gives: by more of it and, if there is a name for it, by less."""
    whole = scored(values, good, task)
    inside = whole.inside
    pairs = float(inside.pairs.sum())
    more = float((inside.areas * inside.pairs).sum()) / pairs if pairs else float("nan")
    n_tasks = int(task.max()) + 1
    found = whole.measures(np.ones((1, len(values))), good, np.ones((1, n_tasks)))[0]
    drawn = _redrawn(values, good, drawing)
    return [
        _Finder(
            name,
            found[3 * way : 3 * way + 3],
            1.0 - more if way else more,
            drawn[:, 3 * way : 3 * way + 3],
            (n_tasks, n_tasks, len(inside.tasks)),
        )
        for way, name in enumerate(ways)
    ]


def _redrawn(values: Floats, good: Bools, drawing: TaskBootstrap) -> Floats:
    """The measures of one column on the resamples."""
    good = good[drawing.rows]
    part: Scored = scored(values[drawing.rows], good, drawing.task)
    _, first = np.unique(drawing.task, return_index=True)  # all rows of a task count alike
    return drawing.replicates(lambda counts: part.measures(counts, good, counts[:, first]))


def _lead(place: int, finders: list[_Finder], drawing: TaskBootstrap) -> Lead | None:
    """Of the weights over the best shortcut by one measure, where both have it."""
    values = [float(finder.values[place]) for finder in finders]
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    best = 1 + int(np.argmax(values[1:]))
    mine, other = finders[0], finders[best]
    difference = values[0] - values[best]
    difference = 0.0 if abs(difference) < _ROUNDING else difference
    drawn = mine.drawn[:, place] - other.drawn[:, place]
    interval = drawing.interval(
        difference, drawn, least=-1.0, most=1.0, n_tasks=mine.n_tasks[place]
    )
    is_ahead: bool | None = None if interval is None else interval.low > 0.0
    is_ahead = False if difference <= 0.0 else is_ahead
    return Lead(MEASURES[place], other.name, difference, interval, is_ahead)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

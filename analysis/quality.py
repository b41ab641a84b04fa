"""Do heavy rows deserve it? The weights held against a label of quality, or a reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.calibration import Decile, deciles
from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import floats_of, tasks_of
from trajweight.analysis.shortcuts import SHORTCUTS, Comparison, compare

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

#: A shortcut whose column fewer of the labelled rows have is left out, rather than the rows.
LEAST_KNOWN: Final = 0.9


@dataclass(frozen=True, slots=True)
class Quality(Facts):
    """What a label of quality says about the weights.

    Attributes:
        label: The column that holds the quality.
        n: Rows that count: those with a weight, a label and what the shortcuts need.
        n_unlabelled: Rows with a weight but no label.
        n_left_out: Labelled rows that lack what a shortcut needs.
        n_good: Rows whose quality is at least ``threshold``.
        n_tasks: Tasks of the rows that count.
        n_mixed_tasks: Those of them with good and bad rows.
        threshold: The least quality of a good row; None where all rows are of one quality.
        mean_quality: Over the rows, each counting the same.
        weighted_mean_quality: Over the rows, each counting by its weight; None without mass.
        good_share: Good rows over all rows.
        good_mass_share: The good rows' part of the mass.
        why: Why rows could not be ranked, as a sentence; None where they could.
        comparison: How well the weights find the good rows, beside the shortcuts.
        missing_shortcuts: Columns of shortcuts that too few rows have.
        deciles: Mean quality by tenths of the weights, the lightest first.
    """

    label: str
    n: int
    n_unlabelled: int
    n_left_out: int
    n_good: int
    n_tasks: int
    n_mixed_tasks: int
    threshold: float | None
    mean_quality: float | None
    weighted_mean_quality: float | None
    good_share: float | None
    good_mass_share: float | None
    why: str | None
    comparison: Comparison | None
    missing_shortcuts: tuple[str, ...]
    deciles: tuple[Decile, ...]


def quality(
    table: pl.DataFrame,
    label: str,
    *,
    task: str = "task_id",
    threshold: float | None = None,
    seed: int = 0,
) -> Quality:
    """Hold the weights against a label of quality, beside the shortcuts.

    Args:
        table: One row a trajectory, with ``weight``, the label and, where known, ``n_tokens``,
            ``n_turns`` and ``base_nll``.
        label: A column of numbers or truth values, the higher the better: a label made by hand, a
            reward, a success. Nulls and numbers that are not finite are unknown.
        task: Name of the column of tasks; without it each row is its own task.
        threshold: The least quality of a good row. Where it is not given it is the higher one of
            two values, and of more values the one that parts the rows most evenly.
        seed: Of the bootstrap.
    """
    weights, values = floats_of(table, "weight"), floats_of(table, label)
    weighed = np.isfinite(weights)
    labelled = weighed & np.isfinite(values)
    columns, missing = _columns(table, labelled)
    kept = np.all([labelled, *(np.isfinite(column) for column in columns.values())], axis=0)
    w, q = weights[kept], values[kept]
    names, tasks = np.unique(tasks_of(table, task)[kept], return_inverse=True)
    limit = even_threshold(q) if threshold is None else threshold
    good = np.zeros(len(q), dtype=bool) if limit is None else q >= limit
    why = _why_not(q, good)
    comparison = None
    if why is None:
        shortcuts = {name: column[kept] for name, column in columns.items()}
        comparison = compare(w, shortcuts, good, tasks, seed=seed)
    n_bad = np.bincount(tasks[~good], minlength=len(names))
    mass = float(w.sum())
    return Quality(
        label=label,
        n=len(q),
        n_unlabelled=int((weighed & ~labelled).sum()),
        n_left_out=int((labelled & ~kept).sum()),
        n_good=int(good.sum()),
        n_tasks=len(names),
        n_mixed_tasks=int((np.bincount(tasks[good], minlength=len(names)) * n_bad > 0).sum()),
        threshold=limit,
        mean_quality=float(q.mean()) if len(q) else None,
        weighted_mean_quality=float((w / mass) @ q) if mass > 0 else None,
        good_share=float(good.mean()) if limit is not None and len(q) else None,
        good_mass_share=float((w / mass) @ good) if limit is not None and mass > 0 else None,
        why=why,
        comparison=comparison,
        missing_shortcuts=missing,
        deciles=deciles(w, q, tasks),
    )


def even_threshold(values: Floats) -> float | None:
    """The value that parts values most evenly into those below and those of at least as much.

    Args:
        values: Finite. Shape (n,).

    Returns:
        The lowest such value; None where all are the same.

    Example:
        >>> even_threshold(np.array([0.0, 0.0, 0.0, 1.0]))
        1.0
        >>> even_threshold(np.array([1.0, 2.0, 3.0, 4.0]))
        3.0
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 2:
        return None
    below = np.cumsum(counts)[:-1]
    return float(distinct[1 + int(np.argmin(np.abs(2 * below - len(values))))])


def _columns(table: pl.DataFrame, labelled: Bools) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The columns of shortcuts that enough of the labelled rows have, and the names of others."""
    found, missing = {}, []
    for name in SHORTCUTS:
        column = floats_of(table, name) if name in table.columns else np.full(len(labelled), np.nan)
        n_known = int(np.isfinite(column[labelled]).sum())
        if n_known and n_known >= LEAST_KNOWN * int(labelled.sum()):
            found[name] = column
        else:
            missing.append(name)
    return found, tuple(missing)


def _why_not(q: Floats, good: Bools) -> str | None:
    """Why rows cannot be ranked by their quality."""
    if len(q) == 0:
        return "No row has both a weight and a label."
    if np.ptp(q) == 0:
        return f"All {len(q)} labelled rows have the quality {q[0]:g}."
    if good.all() or not good.any():
        kind = "good" if good.all() else "bad"
        return f"All {len(q)} labelled rows count as {kind}; the threshold lies beyond them."
    return None

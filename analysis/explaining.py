"""What explains the weights of a run, as facts: source, length, turns, base loss, reward, label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.analysis.associations import associations
from trajweight.analysis.attribution import variance_explained
from trajweight.analysis.correlations import WARN_BEYOND
from trajweight.analysis.groups import floats_of, tasks_of
from trajweight.analysis.quality import quality

if TYPE_CHECKING:
    from collections.abc import Mapping

#: By column, how a sentence names it.
NAMES: Final = {
    "n_tokens": "the length in tokens",
    "n_turns": "the number of turns",
    "base_nll": "the loss of the base model",
    "reward": "the reward",
}
LENGTHS: Final = ("n_tokens", "n_turns")
#: Beyond this many rows whole tasks are drawn at random until as many are together.
MAX_ROWS: Final = 100_000
_ALWAYS: Final = ("n_tokens", "n_turns", "base_nll")
#: Columns that say how good a row is, the plainer one first.
_LABELS: Final = ("success", "reward")


def some_tasks(learned: pl.DataFrame, *, most: int = MAX_ROWS, seed: int = 0) -> pl.DataFrame:
    """All rows, or the rows of whole tasks drawn at random, about as many as ``most``.

    What is computed of them errs by less than a hundredth, and intervals are a little too wide.

    Args:
        learned: The synthetic training rows.
        most: Rows beyond which tasks are drawn.
        seed: Of the draw.
    """
    if learned.height <= most:
        return learned
    tasks = tasks_of(learned, "task_id")
    sizes = np.bincount(tasks)
    order = np.random.default_rng(seed).permutation(len(sizes))
    n_kept = max(int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")), 1)
    is_kept = np.zeros(len(sizes), dtype=bool)
    is_kept[order[:n_kept]] = True
    return learned.filter(pl.Series(is_kept[tasks]))


def explained_facts(learned: pl.DataFrame) -> dict[str, Any]:
    """How much of the variance of the weights the columns explain, and length beyond the source.

    Args:
        learned: The synthetic training rows.
    """
    lengths = [name for name in LENGTHS if _is_known(learned, name)]
    source = variance_explained(learned, numbers=[])
    length = variance_explained(learned, numbers=lengths, group=None)
    both = variance_explained(learned, numbers=lengths)
    beyond = None
    if both.together is not None and source.together is not None:
        beyond = max(both.together - source.together, 0.0)
    return {
        **variance_explained(learned, numbers=_columns(learned)).as_dict(),
        "length": {
            "columns": lengths,
            "alone": length.together,
            "beyond_source": beyond,
            "by_luck": length.by_luck,
        },
    }


def association_facts(learned: pl.DataFrame) -> list[dict[str, Any]]:
    """Rank correlations with intervals; a strong one with what is no label of quality is suspect.

    Args:
        learned: The synthetic training rows.
    """
    found = []
    for one in associations(learned, _columns(learned)):
        rho = one.spearman.value
        suspicious = one.column in _ALWAYS and rho is not None and abs(rho) > WARN_BEYOND
        found.append({**one.as_dict(), "rho": rho, "suspicious": suspicious})
    return found


def quality_facts(learned: pl.DataFrame, learning: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The weights against every label of quality that the rows have, beside the shortcuts.

    Args:
        learned: The synthetic training rows.
        learning: See `report.Learning`; tells whether returns were given to the learning.
    """
    was_given = "prior" in (learning.get("returns") or {})
    return [
        {**quality(learned, label).as_dict(), "was_given": was_given}
        for label in _LABELS
        if _is_known(learned, label)
    ]


def _columns(learned: pl.DataFrame) -> list[str]:
    """The columns that are asked about: rewards only where there are any."""
    return [*_ALWAYS, *(["reward"] if _is_known(learned, "reward") else [])]


def _is_known(rows: pl.DataFrame, column: str) -> bool:
    """Whether any row has a number there."""
    return bool(np.isfinite(floats_of(rows, column)).any())

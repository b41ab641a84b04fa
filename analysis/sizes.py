"""Effective sizes as facts: overall, by source, of the heaviest tasks, and along training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight.analysis.ess import along_training, effective_size, effective_size_by
from trajweight.analysis.groups import tasks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Tasks listed by name; there may be as many tasks as rows.
N_TASKS: Final = 20


def size_facts(learned: pl.DataFrame, trace: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The effective sizes of the synthetic training rows.

    Args:
        learned: One row a trajectory, with ``weight``, ``source`` and ``task_id``.
        trace: Rows of ``trace.jsonl``.
    """
    weights = learned["weight"].to_numpy()
    by_source = effective_size_by(learned, "source")
    return {
        "overall": effective_size(weights, tasks_of(learned, "task_id")),
        "by_source": [{"source": name, **found.as_dict()} for name, found in by_source.items()],
        "heaviest_tasks": _heaviest_tasks(learned),
        "along_training": along_training(trace),
    }


def _heaviest_tasks(learned: pl.DataFrame) -> list[dict[str, Any]]:
    """The tasks that hold most of the mass."""
    mass = float(learned["weight"].sum())
    named = learned.filter(pl.col("task_id").is_not_null())
    held = named.group_by("task_id").agg(pl.col("weight").sum())
    heaviest = held.sort(["weight", "task_id"], descending=[True, False]).head(N_TASKS)
    rows = named.join(heaviest.select("task_id"), on="task_id", how="semi")
    share = float(rows["weight"].sum()) / mass if mass > 0 else 0.0
    found = effective_size_by(rows, "task_id")
    listed = [
        {"task_id": name, **replace(size, mass_share=size.mass_share * share).as_dict()}
        for name, size in found.items()
    ]
    return sorted(listed, key=lambda one: (-one["mass_share"], one["task_id"]))

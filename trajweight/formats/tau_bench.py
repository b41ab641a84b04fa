"""tau-bench results: a JSON array of runs, each with its conversation under ``traj``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.pieces import shown
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

#: tau-bench calls a run a success when its reward is one, give or take the rounding of floats.
_ONE: Final = 1 - 1e-6


class TauBench(Format):
    """Rows of task_id, reward, info, traj and trial."""

    name = "tau-bench"
    title = "tau-bench results"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "task": ("task_id",),
        "group": ("task_id",),
        "reward": ("reward",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a conversation under traj, and the reward it earned."""
        if not isinstance(value, dict):
            return ("a list traj", "a key reward")
        wanted = () if isinstance(value.get("traj"), list | str) else ("a list traj",)
        return wanted if "reward" in value else (*wanted, "a key reward")

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a run; the trials of one task are a group."""
        row = item.value
        if not row["traj"]:
            raise UnusableError(_why_empty(row))
        found = canonical_conversation({}, listed(row["traj"], "traj"))
        return Canonical(
            found.messages,
            found.tools,
            found.remarks,
            {**_named(row), **solved(row.get("reward"), "reward")},
        )


def solved(reward: Any, field: str) -> dict[str, tuple[Any, str]]:
    """What a reward says of success here and in tau2-bench; nothing where it is no number."""
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        return {}
    return {"success": (reward >= _ONE, field)}


def _named(row: Row) -> dict[str, tuple[Any, str]]:
    """An id, which only the task and the trial together are."""
    task, trial = row.get("task_id"), row.get("trial")
    if not isinstance(task, str | int) or not isinstance(trial, int):
        return {}
    return {"id": (f"{task}:{trial}", "task_id and trial")}


def _why_empty(row: Row) -> str:
    info = row.get("info")
    error = info.get("error") if isinstance(info, dict) else None
    said = f": the run ended in an error: {shown(error)}" if isinstance(error, str) else ""
    return f"traj is empty{said}"

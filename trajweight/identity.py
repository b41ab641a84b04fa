"""Names that need the whole table: unique ids, tasks seen from openings, families of rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Identified:
    """What a row says of itself before it is compared with the others.

    Attributes:
        traj_id: The id it gives, or one made from its place.
        origin: real or synthetic.
        task_id: The task it names; None when it names none.
        group_id: The group it names; None when it names none.
        is_child: Whether ``group_id`` is the id of the row that this one was made from.
        opening: A hash of its first user turn.
    """

    traj_id: str
    origin: str
    task_id: str | None
    group_id: str | None
    is_child: bool
    opening: str


@dataclass(frozen=True, slots=True)
class Named:
    """Names over the whole table, one a row, in the order of the rows.

    Attributes:
        traj_ids: Unique.
        task_ids: Never missing.
        group_ids: None where nothing is known.
        notes: What was decided, for the user.
    """

    traj_ids: list[str]
    task_ids: list[str]
    group_ids: list[str | None]
    notes: list[str]


def name_rows(rows: Sequence[Identified]) -> Named:
    """Give every row its names.

    A row that names no task has the task of its opening. An opening that more than half of
    the real rows, or of the synthetic rows, have in common is read as the standing
    instructions of an environment, which tell no task: such a row is a task of its own.
    """
    traj_ids, id_notes = _unique(rows)
    task_ids, task_notes = _tasks(rows, traj_ids)
    return Named(traj_ids, task_ids, _families(rows, traj_ids), [*id_notes, *task_notes])


def _unique(rows: Sequence[Identified]) -> tuple[list[str], list[str]]:
    given = Counter(row.traj_id for row in rows)
    taken: set[str] = set(given)
    seen: Counter[str] = Counter()
    ids: list[str] = []
    for row in rows:
        name = row.traj_id
        seen[name] += 1
        while seen[name] > 1 and name == row.traj_id:
            candidate = f"{row.traj_id}#{seen[row.traj_id]}"
            if candidate in taken:  # a row is really called so: count on
                seen[row.traj_id] += 1
                continue
            name = candidate
            taken.add(name)
        ids.append(name)
    changed = [name for name, row in zip(ids, rows, strict=True) if name != row.traj_id]
    if not changed:
        return ids, []
    said = f"traj_id: {len(changed)} rows repeat an id; a suffix was added (first: {changed[0]})"
    return ids, [said]


def _tasks(rows: Sequence[Identified], traj_ids: list[str]) -> tuple[list[str], list[str]]:
    common = _common_openings(rows)
    task_ids: list[str] = []
    n_own = 0
    openings: Counter[str] = Counter()
    for row, traj_id in zip(rows, traj_ids, strict=True):
        if row.task_id is not None:
            task_ids.append(row.task_id)
        elif row.opening in common:
            task_ids.append(f"row:{traj_id}")
            n_own += 1
        else:
            task_ids.append(row.opening)
            openings[row.opening] += 1
    notes = []
    if openings:
        notes.append(
            f"task_id: {openings.total()} rows name no task; rows with the same first user turn "
            f"count as one task ({len(openings)} tasks)"
        )
    if n_own:
        notes.append(
            f"task_id: {n_own} rows name no task and begin with a user turn that more than half "
            "of the real or of the synthetic rows share; each counts as a task of its own. "
            "Give a field task_id if several are one task"
        )
    return task_ids, notes


def _common_openings(rows: Sequence[Identified]) -> set[str]:
    common: set[str] = set()
    for origin in {row.origin for row in rows}:
        counts = Counter(row.opening for row in rows if row.origin == origin)
        half = counts.total() / 2
        common |= {opening for opening, n in counts.items() if n > half and n > 1}
    return common


def _families(rows: Sequence[Identified], traj_ids: list[str]) -> list[str | None]:
    """Groups, where a child and the row it was made from end in the same one."""
    groups = [row.group_id for row in rows]
    place = {row.traj_id: i for i, row in reversed(list(enumerate(rows)))}  # the first of a name
    for i, row in enumerate(rows):
        if not row.is_child:
            continue
        root, parent, seen = i, row.group_id, {i}
        while parent in place and place[parent] not in seen:
            root = place[parent]
            seen.add(root)
            if not rows[root].is_child:
                break
            parent = rows[root].group_id
        if root != i and not rows[root].is_child:
            parent = groups[root] = groups[root] or traj_ids[root]
        groups[i] = parent
    return groups

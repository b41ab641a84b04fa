"""Names that need the whole table: unique ids, tasks seen from openings, families of rows.

A table of a million rows is not held in memory for this. Of each row a few numbers are kept, ids
and openings as 64-bit hashes; the rows themselves pass by once more when they get their names.
Two unlike texts get one hash with a chance of about n^2 / 2^65: 3 in 10^8 for a million rows, and
then a needless suffix, or two tasks taken for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trajweight.trajectory import IDENTITY_COLUMNS as IDENTITY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trajweight.problems import Code

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

_REPEATED: Final[Code] = "duplicate-row-id"
#: An id that ends like the suffix of a repeated one.
_SUFFIXED: Final = r"(?s)^(.*)#([1-9][0-9]{0,17})$"


@dataclass(frozen=True, slots=True)
class Named:
    """What every row is called, to be given to the rows as they pass by again.

    Attributes:
        numbers: What stands after ``#`` in the id of a row that repeats one; 0 for all others.
        is_own_task: Rows that name no task and whose opening tells none.
        group_at: By row, the place of its group in ``groups``; -1 where the row keeps what it says.
        groups: Names of groups; None where no row was made from another.
        notes: What was decided, for the user.
    """

    numbers: Integers
    is_own_task: Flags
    group_at: Integers
    groups: pl.Series | None
    notes: list[str]

    def over(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The rows with their names, without the columns of ``IDENTITY_COLUMNS``.

        Args:
            frames: The rows that were named, in the same order, however they are cut.
        """
        first = 0
        for frame in frames:
            here = slice(first, first + frame.height)
            first += frame.height
            yield self._given(frame, here)

    def _given(self, frame: pl.DataFrame, here: slice) -> pl.DataFrame:
        own_task = pl.lit(pl.Series(self.is_own_task[here]))
        task = pl.coalesce(
            "task_id",
            pl.when(own_task).then(pl.concat_str(pl.lit("row:"), "traj_id")).otherwise("opening"),
        )
        frame = frame.with_columns(_suffixed(self.numbers[here])).with_columns(task_id=task)
        if "problems" in frame.columns:
            frame = frame.with_columns(_flagged(self.numbers[here]))
        if self.groups is not None:
            at = pl.Series(self.group_at[here])
            found = self.groups.gather(at.clip(lower_bound=0))
            given = pl.when(pl.lit(at) < 0).then("group_id").otherwise(pl.lit(found))
            frame = frame.with_columns(group_id=given)
        return frame.drop(IDENTITY_COLUMNS)


def name_rows(frames: Callable[[], Iterable[pl.DataFrame]]) -> Named:
    """Find the names of all rows.

    A row that names no task has the task of its opening. An opening that more than half of
    the real rows, or of the synthetic rows, have in common is read as the standing
    instructions of an environment, which tell no task: such a row is a task of its own.

    Args:
        frames: Gives the rows, cut into frames with the columns ``traj_id``, ``origin``,
            ``task_id``, ``group_id`` and those of ``IDENTITY_COLUMNS``; called up to twice.
    """
    rows = _Rows.of(frames())
    numbers = _numbers(rows)
    is_own_task, task_notes = _tasks(rows)
    ends = _ends(rows)
    repeats = np.flatnonzero(numbers)
    families = np.unique(ends[ends >= 0])
    wanted = np.union1d(families, repeats[:1])
    names = _names(frames(), numbers, wanted) if len(wanted) else pl.DataFrame()
    notes = []
    if len(repeats):
        first = names["traj_id"][int(np.searchsorted(wanted, repeats[0]))]
        notes.append(
            f"traj_id: {len(repeats)} rows repeat an id; a suffix was added (first: {first})"
        )
    group_at = np.where(ends >= 0, np.searchsorted(wanted, ends), -1)
    roots = families[~rows.is_child[families]]
    group_at[roots] = np.searchsorted(wanted, roots)
    groups = names["group_id"] if len(families) else None
    return Named(numbers, is_own_task, group_at, groups, [*notes, *task_notes])


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is kept of all rows; n rows, of which c were made from another.

    Attributes:
        ids: Hashes of what they are called. Shape (n,).
        openings: Hashes. Shape (n,).
        is_real: Shape (n,).
        has_task: Whether they name a task. Shape (n,).
        is_child: Whether they were made from another row. Shape (n,).
        parents: Hashes of what these were made from. Shape (c,).
        bases: Of ids that end like a suffix, hashes of what stands before it. Shape (k,).
        suffixes: The numbers they end with. Shape (k,).
    """

    ids: Hashes
    openings: Hashes
    is_real: Flags
    has_task: Flags
    is_child: Flags
    parents: Hashes
    bases: Hashes
    suffixes: Integers

    @classmethod
    def of(cls, frames: Iterable[pl.DataFrame]) -> _Rows:
        """Keep of every row what is needed."""
        parts = [_kept(frame) for frame in frames]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _kept(frame: pl.DataFrame) -> tuple[NDArray[Any], ...]:
    """The arrays of ``_Rows`` for some of the rows."""
    ids = frame["traj_id"]
    split = ids.filter(ids.str.contains("#", literal=True)).str.extract_groups(_SUFFIXED)
    suffixed = split.struct.unnest().drop_nulls()
    return (
        ids.hash().to_numpy(),
        frame["opening"].hash().to_numpy(),
        (frame["origin"] == "real").to_numpy(),
        frame["task_id"].is_not_null().to_numpy(),
        frame["is_child"].to_numpy(),
        frame.filter("is_child")["group_id"].hash().to_numpy(),
        suffixed["1"].hash().to_numpy(),
        suffixed["2"].cast(pl.Int64).to_numpy(),
    )


def _numbers(rows: _Rows) -> Integers:
    """What stands after ``#`` in repeated ids; the first of a name keeps it.

    The later ones count from 2 and leave out what would make them another row's own id.
    """
    order = np.argsort(rows.ids, kind="stable")
    ids = rows.ids[order]
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))  # (names,)
    rank = np.arange(len(ids)) - np.repeat(starts, np.diff(starts, append=len(ids)))
    numbers = np.zeros(len(ids), np.int64)
    numbers[order] = np.where(rank > 0, rank + 1, 0)
    taken = np.isin(rows.bases, ids[rank > 0])
    by_base = np.lexsort((rows.suffixes[taken], rows.bases[taken]))
    bases, suffixes = rows.bases[taken][by_base], rows.suffixes[taken][by_base]
    for base in np.unique(bases):
        repeats = order[_equal_to(base, ids)][1:]
        theirs = suffixes[_equal_to(base, bases)]
        counted = np.arange(2, 2 + len(repeats) + len(theirs))
        numbers[repeats] = np.setdiff1d(counted, theirs)[: len(repeats)]
    return numbers


def _equal_to(value: np.uint64, ordered: Hashes) -> slice:
    """Where a value stands in an array that is in order."""
    left, right = (int(np.searchsorted(ordered, value, side)) for side in ("left", "right"))
    return slice(left, right)


def _tasks(rows: _Rows) -> tuple[Flags, list[str]]:
    """Which rows are a task of their own, and what was decided of those that name none."""
    is_common = np.isin(rows.openings, _common_openings(rows))
    is_own_task = ~rows.has_task & is_common
    of_opening = ~rows.has_task & ~is_common
    notes = []
    if n := int(of_opening.sum()):
        n_tasks = len(np.unique(rows.openings[of_opening]))
        notes.append(
            f"task_id: {n} rows name no task; rows with the same first user turn "
            f"count as one task ({n_tasks} tasks)"
        )
    if n := int(is_own_task.sum()):
        notes.append(
            f"task_id: {n} rows name no task and begin with a user turn that more than half "
            "of the real or of the synthetic rows share; each counts as a task of its own. "
            "Give a field task_id if several are one task"
        )
    return is_own_task, notes


def _common_openings(rows: _Rows) -> Hashes:
    common = []
    for openings in (rows.openings[rows.is_real], rows.openings[~rows.is_real]):
        found, counts = np.unique(openings, return_counts=True)
        common.append(found[(counts > len(openings) / 2) & (counts > 1)])
    return np.concatenate(common)


def _ends(rows: _Rows) -> Integers:
    """By row the one whose group it is in; -1 for rows that were not made from another.

    From a child the way leads to the first row of its parent's name, and on from there. It ends at
    a row that was made from no other; at a child whose parent is not there; or, where rows are each
    other's parents, at the last one before it would come back.
    """
    ends = np.full(len(rows.ids), -1)
    children = np.flatnonzero(rows.is_child)
    if not len(children):
        return ends
    names, firsts = np.unique(rows.ids, return_index=True)
    at = np.minimum(np.searchsorted(names, rows.parents), len(names) - 1)
    step = np.arange(len(rows.ids))
    step[children] = np.where(names[at] == rows.parents, firsts[at], children)
    last = _followed(step)
    rings = np.unique(last[step[last] != last])  # rows that are their own ancestors
    if len(rings):
        step[rings], behind = rings, dict(zip(step[rings].tolist(), rings.tolist(), strict=True))
        last = _followed(step)  # now the way into a ring ends where it enters
        entered = np.flatnonzero(np.isin(last, rings))
        last[entered] = [behind[entry] for entry in last[entered].tolist()]
    ends[children] = last[children]
    return ends


def _followed(step: Integers) -> Integers:
    """Where every row is after at least as many steps as there are rows."""
    for _ in range(len(step).bit_length()):
        further = step[step]
        if np.array_equal(further, step):
            break
        step = further
    return step


def _names(frames: Iterable[pl.DataFrame], numbers: Integers, wanted: Integers) -> pl.DataFrame:
    """Id and group of some rows, who is their own group where they say none."""
    found, first = [], 0
    for frame in frames:
        here = slice(*np.searchsorted(wanted, (first, first + frame.height)).tolist())
        rows = frame.select("traj_id", "group_id").with_columns(
            _suffixed(numbers[first : first + frame.height])
        )
        found.append(rows[wanted[here] - first])
        first += frame.height
    return pl.concat(found).with_columns(group_id=pl.coalesce("group_id", "traj_id"))


def _suffixed(numbers: Integers) -> pl.Expr:
    """The id with its suffix."""
    number = pl.lit(pl.Series(numbers))
    text = pl.concat_str("traj_id", pl.lit("#"), number)
    return pl.when(number > 0).then(text).otherwise("traj_id").alias("traj_id")


def _flagged(numbers: Integers) -> pl.Expr:
    """The problems of a row, a repeated id among them."""
    code = pl.lit(_REPEATED)
    both = pl.concat_str("problems", code, separator=",", ignore_nulls=True)
    is_repeated = pl.lit(pl.Series(numbers)) > 0
    return pl.when(is_repeated).then(both).otherwise("problems").alias("problems")

"""What would let the judging rows be learnt by heart: relatives and copies among train rows.

Rows are named by their position in ``Rows``; each function gives positions with a reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.duplicates import (
    DEFAULT_THRESHOLD,
    Conversations,
    Pair,
    exact_duplicates,
    near_duplicates,
)
from trajweight.sketches import is_available, sketched_duplicates, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.trajectory import Split

#: Pairs of a held-out and a training row up to which all are compared.
MOST_PAIRS: Final = 500_000_000

#: The splits that judge.
HELD_OUT: Final[tuple[Split, ...]] = ("validation", "dev", "test")


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns that splitting looks at, sorted by ``traj_id``; one list a column."""

    ids: list[str]
    origins: list[str]
    tasks: list[str]
    groups: list[str | None]
    paths: list[str]
    hashes: list[str]
    messages: list[str]

    @classmethod
    def of(cls, table: pl.DataFrame) -> Rows:
        """The rows of a trajectory table, whatever their order there."""
        names = ["traj_id", "origin", "task_id", "group_id", "origin_path", "content_sha256"]
        ordered = table.select(*names, "messages_json").sort("traj_id")
        return cls(*(column.to_list() for column in ordered.iter_columns()))

    def before(self, other: Rows) -> Rows:
        """These rows and then the others; an id may stand on both sides."""
        both = ([*getattr(self, each.name), *getattr(other, each.name)] for each in fields(self))
        return Rows(*both)

    def with_origin(self, origin: str) -> list[int]:
        """Positions of the rows of an origin."""
        return [i for i, found in enumerate(self.origins) if found == origin]


def family_reasons(
    rows: Rows, splits: Sequence[Split], families: Sequence[Sequence[int]]
) -> dict[int, str]:
    """Real train rows of a family that is held out in part."""
    reasons: dict[int, str] = {}
    for family in families:
        judges = [i for i in family if splits[i] in HELD_OUT]
        for i in family:
            if splits[i] == "train" and judges:
                other = judges[0]
                reasons[i] = f"shares task or group with {splits[other]} row {rows.ids[other]}"
    return reasons


def group_reasons(rows: Rows, splits: Sequence[Split]) -> dict[int, str]:
    """Synthetic rows made from a row that is held out."""
    judges: dict[str, int] = {}
    for i in rows.with_origin("real"):
        group = rows.groups[i]
        if splits[i] in HELD_OUT and group is not None:
            judges.setdefault(group, i)
    reasons: dict[int, str] = {}
    for i in rows.with_origin("synthetic"):
        other = judges.get(rows.groups[i] or "")
        if rows.groups[i] is not None and other is not None:
            reasons[i] = f"shares group with {splits[other]} row {rows.ids[other]}"
    return reasons


def shared_task_note(rows: Rows, splits: Sequence[Split]) -> list[str]:
    """How many synthetic rows are of a task that judges; allowed, but worth saying."""
    held = {rows.tasks[i] for i in rows.with_origin("real") if splits[i] in HELD_OUT}
    n = sum(rows.tasks[i] in held for i in rows.with_origin("synthetic"))
    if not n:
        return []
    return [f"{n} synthetic rows share a task with a held-out real row; they stay in training"]


def copy_reasons(rows: Rows, splits: Sequence[Split], threshold: float) -> dict[int, str]:
    """Train rows that copy a held-out row; the most alike one is named."""
    held = [i for i, s in enumerate(splits) if s in HELD_OUT]
    train = [i for i, s in enumerate(splits) if s == "train"]
    if not held or not train:
        return {}
    reasons: dict[int, str] = {}
    for pair in exact_duplicates([rows.hashes[i] for i in held], [rows.hashes[i] for i in train]):
        other = held[pair.left]
        said = f"exact copy of {splits[other]} row {rows.ids[other]}"
        reasons.setdefault(train[pair.right], said)
    near = _near(rows, held, train, threshold)
    for pair in sorted(near, key=lambda pair: (-pair.similarity, pair.left)):
        other = held[pair.left]
        said = (
            f"near copy of {splits[other]} row {rows.ids[other]} (similarity {pair.similarity:.2f})"
        )
        reasons.setdefault(train[pair.right], said)
    return reasons


def search_notes(*, n_held: int, n_train: int, threshold: float = DEFAULT_THRESHOLD) -> list[str]:
    """How near copies of held-out rows are searched, where that is not by comparing all pairs."""
    if n_held * n_train <= MOST_PAIRS:
        return []
    rows = f"near copies of {n_held} held-out rows among {n_train} training rows"
    if is_available():
        return [f"{rows}: {told(threshold)}"]
    return [f"{rows}: all pairs are compared; pip install 'trajweight[dedup]' makes this faster"]


def relatives(
    table: pl.DataFrame, *, threshold: float = DEFAULT_THRESHOLD
) -> dict[str, frozenset[str]]:
    """The real rows that each row belongs with, whatever their splits: all of them, not one.

    A row belongs with those that it copies, exactly or nearly, and with those of its group. This is
    for rows that change places between training and judging; a shared task is no reason here.

    Args:
        table: Trajectories, the excluded ones left out.
        threshold: Least similarity of a near copy, see ``near_duplicates``.

    Returns:
        By ``traj_id``; a row that belongs with no real row is missing.
    """
    rows = Rows.of(table)
    real, synthetic = rows.with_origin("real"), rows.with_origin("synthetic")
    found: defaultdict[int, set[int]] = defaultdict(set)
    of_group: defaultdict[str | None, list[int]] = defaultdict(list)
    for i in real:
        of_group[rows.groups[i]].append(i)
    of_group.pop(None, None)
    for i, group in enumerate(rows.groups):
        found[i].update(of_group.get(group, ()))
    for others in (real, synthetic):
        # Real rows by themselves, so that none counts twice in what is held to be boilerplate.
        same = exact_duplicates([rows.hashes[i] for i in real], [rows.hashes[i] for i in others])
        for pair in [*same, *_near(rows, real, others, threshold)]:
            found[others[pair.right]].add(real[pair.left])
    return {
        rows.ids[i]: frozenset(rows.ids[j] for j in related - {i})
        for i, related in sorted(found.items())
        if related - {i}
    }


def foreign_reasons(
    held: pl.DataFrame,
    new: pl.DataFrame,
    *,
    parent_field: str,
    threshold: float = DEFAULT_THRESHOLD,
) -> dict[str, str]:
    """Rows of a new table that copy or were made from rows which another run held out.

    What is held to be a copy or a relative is the same as within one run. Tasks may be shared:
    where rows name none, their names in two tables have nothing to do with each other.

    Args:
        held: The trajectories that the other run held out, with their ``split`` there.
        new: Trajectories, real and synthetic alike; their ids may be those of other held rows.
        parent_field: The field of an original row that names the row it was made from.
        threshold: Least similarity of a near copy, see ``near_duplicates``.

    Returns:
        By ``traj_id`` of the new table, the reason, which names the held-out row.
    """
    held = held.sort("traj_id")
    fresh = Rows.of(new)
    fresh = replace(fresh, origins=["synthetic"] * len(fresh.ids))  # real ones leak just as well
    rows = Rows.of(held).before(fresh)
    splits: list[Split] = held["split"].to_list()
    splits += ["train"] * len(fresh.ids)
    parent = pl.col("extra_json").str.json_path_match(f"$.{parent_field}")
    children = set(new.filter(parent.is_not_null())["traj_id"])
    reasons = (
        _parent_reasons(held, children, rows)
        | group_reasons(rows, splits)
        | copy_reasons(rows, splits, threshold)
    )
    return {
        rows.ids[i]: f"{reason}, which the trained run held out"
        for i, reason in sorted(reasons.items())
    }


def _near(rows: Rows, left: Sequence[int], right: Sequence[int], threshold: float) -> list[Pair]:
    """Near copies between two sides; by sketches where there are too many pairs to compare all."""
    is_large = len(left) * len(right) > MOST_PAIRS
    search = sketched_duplicates if is_large and is_available() else near_duplicates
    texts = (Conversations(rows.messages, side) for side in (left, right))
    return search(*texts, threshold=threshold)


def _parent_reasons(held: pl.DataFrame, children: set[str], rows: Rows) -> dict[int, str]:
    """New rows whose group is a held-out row itself: it had no child in its own table to tell."""
    splits = dict(zip(held["traj_id"], held["split"], strict=True))
    return {
        i: f"made from {splits[group]} row {group}"
        for i, group in enumerate(rows.groups)
        if i >= held.height and rows.ids[i] in children and group in splits
    }

"""Laws of names: what is found from numbers and hashes is what a walk over all rows finds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.identity import IDENTITY_COLUMNS, Named, name_rows

SCHEMA = {
    **dict.fromkeys(("traj_id", "origin", "task_id", "group_id"), pl.String),
    **{name: getattr(pl, kind) for name, kind in IDENTITY_COLUMNS.items()},
}


def row(traj_id: str = "a", **said: Any) -> dict[str, Any]:
    plain = {"origin": "real", "task_id": None, "group_id": None, "is_child": False}
    return {"traj_id": traj_id, **plain, "opening": "opening:0", **said}


def child(traj_id: str, parent: str) -> dict[str, Any]:
    return row(traj_id, group_id=parent, is_child=True)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def names_of(named: Named, frames: list[pl.DataFrame]) -> dict[str, list[Any]]:
    return (
        pl.concat(named.over(frames))
        .select("traj_id", "task_id", "group_id")
        .to_dict(as_series=False)
    )


def named(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    frames = [frame(list(rows))]
    return names_of(name_rows(lambda: frames), frames)


def one_by_one(rows: list[dict[str, Any]]) -> tuple[dict[str, list[Any]], list[str]]:
    """What the names are, by walking over the rows with every name in memory."""
    taken = {row["traj_id"] for row in rows}
    seen: Counter[str] = Counter()
    ids = []
    for each in rows:
        said = name = each["traj_id"]
        seen[said] += 1
        while seen[said] > 1 and name == said:
            if f"{said}#{seen[said]}" in taken:
                seen[said] += 1
            else:
                name = f"{said}#{seen[said]}"
                taken.add(name)
        ids.append(name)
    notes = []
    if changed := [now for now, each in zip(ids, rows, strict=True) if now != each["traj_id"]]:
        notes.append(
            f"traj_id: {len(changed)} rows repeat an id; a suffix was added (first: {changed[0]})"
        )
    common: set[str] = set()
    for origin in ("real", "synthetic"):
        counts = Counter(each["opening"] for each in rows if each["origin"] == origin)
        common |= {text for text, n in counts.items() if n > counts.total() / 2 and n > 1}
    tasks = []
    for name, each in zip(ids, rows, strict=True):
        opening = f"row:{name}" if each["opening"] in common else each["opening"]
        tasks.append(opening if each["task_id"] is None else each["task_id"])
    from_opening = [
        each["opening"]
        for each in rows
        if each["task_id"] is None and each["opening"] not in common
    ]
    n_own = sum(each["task_id"] is None and each["opening"] in common for each in rows)
    if from_opening:
        notes.append(
            f"task_id: {len(from_opening)} rows name no task; rows with the same first user turn "
            f"count as one task ({len(set(from_opening))} tasks)"
        )
    if n_own:
        notes.append(
            f"task_id: {n_own} rows name no task and begin with a user turn that more than half "
            "of the real or of the synthetic rows share; each counts as a task of its own. "
            "Give a field task_id if several are one task"
        )
    return {"traj_id": ids, "task_id": tasks, "group_id": families(rows, ids)}, notes


def families(rows: list[dict[str, Any]], ids: list[str]) -> list[str | None]:
    """Groups, by walking from every child to the row its family begins with."""
    groups = [each["group_id"] for each in rows]
    place = {each["traj_id"]: i for i, each in reversed(list(enumerate(rows)))}
    for i, each in enumerate(rows):
        if not each["is_child"]:
            continue
        root, parent, seen = i, each["group_id"], {i}
        while parent in place and place[parent] not in seen:
            root = place[parent]
            seen.add(root)
            if not rows[root]["is_child"]:
                break
            parent = rows[root]["group_id"]
        if root != i and not rows[root]["is_child"]:
            parent = groups[root] = groups[root] or ids[root]
        groups[i] = parent
    return groups


NAMES = st.sampled_from(["a", "b", "a#2", "a#3", "b#2", "b#2#2", "a#02", "c\n", "c\n#2", "#2"])
ROWS = st.builds(
    lambda name, origin, task, opening, group, is_child: row(
        name,
        origin=origin,
        task_id=task,
        opening=f"opening:{opening}",
        group_id=group if is_child or group in ("b", "g") else None,
        is_child=is_child,
    ),
    NAMES,
    st.sampled_from(["real", "synthetic"]),
    st.sampled_from([None, None, "t"]),
    st.integers(0, 3),
    NAMES | st.sampled_from(["gone", "g"]),
    st.booleans(),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(ROWS, max_size=14), st.lists(st.integers(0, 14), max_size=3))
def test_names_are_those_of_a_walk_over_all_rows_however_they_are_cut(rows, cuts):
    places = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    frames = [frame(rows[start:end]) for start, end in pairwise(places)]
    expected, notes = one_by_one(rows)

    found = name_rows(lambda: frames)

    assert names_of(found, frames) == expected
    assert found.notes == notes
    assert len(set(expected["traj_id"])) == len(rows)


def test_a_suffix_leaves_out_what_is_another_rows_own_id():
    ids = named(*(row(name) for name in ["a", "a", "a#3", "a", "a#2#2", "a#4"]))["traj_id"]

    assert ids == ["a", "a#2", "a#3", "a#5", "a#2#2", "a#4"]


def test_a_family_is_called_by_the_group_or_the_id_of_its_first_row():
    rows = [
        child("grandchild", "child"),
        child("child", "root"),
        row("root"),
        child("other", "grouped"),
        row("grouped", group_id="g"),
        child("orphan", "gone"),
    ]

    assert named(*rows)["group_id"] == ["root", "root", "root", "g", "g", "gone"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_rows_that_are_each_others_parents_end_before_they_come_back(n):
    ring = [child(f"{i}", f"{(i + 1) % n}") for i in range(n)]
    tail = [child("tail", "0"), child("tip", "tail")]

    assert named(*tail, *ring)["group_id"] == ["0", "0", *(f"{i}" for i in range(n))]


def test_a_chain_of_many_rows_is_followed_to_its_end():
    n = 5000
    rows = [child(f"{i}", f"{i + 1}") for i in range(n)] + [row(f"{n}")]

    assert set(named(*rows)["group_id"]) == {f"{n}"}


def test_a_root_that_repeats_an_id_gives_its_family_the_first_ones_name():
    rows = [row("a"), row("a"), child("b", "a"), child("c", "a#2")]

    assert named(*rows)["group_id"] == ["a", None, "a", "a#2"]


def test_what_is_kept_of_a_row_is_a_few_numbers():
    frames = [frame([row(f"{i}", opening=f"opening:{i}") for i in range(1000)])]

    found = name_rows(lambda: frames)

    sizes = [each.nbytes for each in (found.numbers, found.is_own_task, found.group_at)]
    assert sum(sizes) <= 20 * 1000
    assert found.groups is None
    assert found.numbers.dtype == np.int64

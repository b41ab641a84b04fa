from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.matching import LABELS, matched, rows_in_both


def table(rows: list[tuple[str, str]]) -> pl.DataFrame:
    """Rows of an id and a content; the place of each is told too."""
    schema = {"traj_id": pl.String, "content_sha256": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("place")


def pairs(a: list[tuple[str, str]], b: list[tuple[str, str]]) -> list[tuple[int, int, bool]]:
    found = matched(table(a), table(b))
    return found.select("place_a", "place_b", "is_same").rows()


def pairs_slowly(a: list[tuple[str, str]], b: list[tuple[str, str]]) -> list[tuple[int, int, bool]]:
    """The same rule, row by row."""
    left, right = dict(enumerate(a)), dict(enumerate(b))
    found = []
    for is_same, belongs in (
        (True, lambda one, other: one == other),
        (True, lambda one, other: one[1] == other[1]),
        (False, lambda one, other: one[0] == other[0]),
    ):
        for i in list(left):
            j = next((j for j in right if belongs(left[i], right[j])), None)
            if j is not None:
                found.append((i, j, is_same))
                del left[i], right[j]
    return sorted(found)


def rows(ids: str = "abcdef", contents: str = "xyz") -> st.SearchStrategy[list[tuple[str, str]]]:
    each = st.tuples(st.sampled_from(ids), st.sampled_from(contents))
    return st.lists(each, max_size=6, unique_by=lambda row: row[0])


@given(rows(), rows())
def test_rows_are_matched_as_one_by_one(a, b) -> None:
    assert pairs(a, b) == pairs_slowly(a, b)


@given(rows())
def test_every_row_of_a_table_is_its_own_match(a) -> None:
    assert pairs(a, a[::-1]) == [(i, len(a) - 1 - i, True) for i in range(len(a))]


def test_content_comes_before_the_id() -> None:
    assert pairs([("a", "x"), ("b", "y")], [("a", "y"), ("b", "x")]) == [(0, 1, True), (1, 0, True)]


def test_of_copies_those_of_one_id_belong_together() -> None:
    assert pairs([("a", "x"), ("b", "x")], [("b", "x")]) == [(1, 0, True)]


def test_an_edited_row_is_known_by_its_id() -> None:
    assert pairs([("a", "x")], [("a", "y")]) == [(0, 0, False)]


def labelled(splits: str, *, source: str = "good") -> pl.DataFrame:
    found = table([(f"r{i}", f"c{i}") for i in range(len(splits))])
    names = {"t": "train", "v": "validation", "x": "excluded"}
    label = {"source": source, "origin": "synthetic", "task_id": None}
    assert tuple(label) == LABELS
    return found.with_columns(
        *(pl.lit(value, dtype=pl.String).alias(name) for name, value in label.items()),
        split=pl.Series([names[each] for each in splits]),
    )


def counted(a: pl.DataFrame, b: pl.DataFrame, top: int = 10):
    return rows_in_both(a, b, matched(a, b), top=top)


def test_changes_of_split_are_counted_by_where_rows_went_the_most_first() -> None:
    found = counted(labelled("tttvx"), labelled("txvxx"))

    assert found.n_resplit == 3
    told = [(way.split_a, way.split_b, way.n, way.ids) for way in found.splits]
    assert told == [
        ("train", "excluded", 1, ("r1",)),
        ("train", "validation", 1, ("r2",)),
        ("validation", "excluded", 1, ("r3",)),
    ]
    assert not found.are_same


def test_only_so_many_ids_are_told_as_were_asked_for() -> None:
    (way,) = counted(labelled("tttt"), labelled("vvvv"), top=2).splits

    assert (way.n, way.ids) == (4, ("r0", "r1"))


def test_rows_in_one_table_only_are_counted() -> None:
    found = counted(labelled("ttttt"), labelled("ttt"))

    assert (found.n_a, found.n_b, found.n_both) == (5, 3, 3)
    assert (found.n_by_content, found.n_by_id) == (3, 0)
    assert (found.n_only_a, found.n_only_b) == (2, 0)
    assert not found.are_same


def test_another_source_is_another_label_and_a_missing_task_is_none() -> None:
    assert counted(labelled("tt"), labelled("tt", source="bad")).n_relabelled == 2
    assert counted(labelled("tt"), labelled("tt")).are_same

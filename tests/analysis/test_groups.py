from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.groups import codes_of, floats_of, tasks_of


@given(st.lists(st.one_of(st.none(), st.sampled_from(["b", "a", "ä", "", "c c"]))))
def test_rows_share_a_code_where_they_share_a_name_and_nameless_rows_share_with_nobody(
    rows,
) -> None:
    codes, names = codes_of(pl.Series(rows, dtype=pl.String))

    assert names == sorted(set(rows) - {None})
    assert sorted(set(codes)) == list(range(len(set(codes))))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert (codes[i] == codes[j]) == (i == j or (one is not None and one == other))


def test_numbers_are_read_as_their_text() -> None:
    codes, names = codes_of(pl.Series([10, 9, 10]))

    assert codes.tolist() == [0, 1, 0]
    assert names == ["10", "9"]


def test_without_a_column_of_tasks_every_row_is_its_own() -> None:
    table = pl.DataFrame({"weight": [1.0, 2.0, 3.0], "task_id": ["a", "b", "a"]})

    assert tasks_of(table, "task_id").tolist() == [0, 1, 0]
    assert tasks_of(table, "none such").tolist() == [0, 1, 2]


def test_what_is_no_finite_number_is_missing() -> None:
    table = pl.DataFrame({"x": [1.0, None, float("inf"), float("nan")], "yes": [True, None] * 2})

    assert np.isnan(floats_of(table, "x")).tolist() == [False, True, True, True]
    assert floats_of(table, "yes")[0] == 1.0

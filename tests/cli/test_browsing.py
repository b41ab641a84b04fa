"""Laws of what a browser does with rows, judged by a slow twin in plain Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs import make_run, row
from trajweight.cli._browsing import (
    COLUMNS,
    Filters,
    Sorting,
    extreme,
    filters_told,
    is_shown,
    load_rows,
    measured,
    position_of,
    search,
    sorted_places,
    values_of,
)
from trajweight.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

NAMES = st.text("aAbäÄ.*(\\ ", max_size=3)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "weight": st.sampled_from([None, 0.0, 1.0, 2.5]),
            "percentile": st.none(),
            "origin": st.sampled_from(["real", "synthetic"]),
            "source": NAMES,
            "split": st.sampled_from(["train", "dev"]),
            "n_turns": st.integers(0, 3),
            "n_tokens": st.none() | st.integers(0, 3),
            "reward": st.none() | st.floats(-1, 1),
            "traj_id": NAMES,
        }
    ),
    max_size=12,
)
SCHEMA = {column.name: pl.Float64 if column.is_number else pl.String for column in COLUMNS} | {
    "n_turns": pl.Int64,
    "n_tokens": pl.Int64,
}


def table_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA).with_row_index("place")


def batch_of(*messages: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"messages_json": [json.dumps(each, ensure_ascii=False) for each in messages]}
    )


def found_by(words: str, *batches: pl.DataFrame) -> list[int]:
    told = search(batches, words, is_ended=lambda: False)
    return [place for _, places in told for place in places]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(f"s{i}", text=f"reply {i}", reward=i / 10) for i in range(4)]
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(2)]
    weights = {"s0": 1.0, "s1": 3.0, "s2": 1.0, "s3": 5.0}
    embeddings = {one["id"]: [0.0] for one in rows}
    return make_run(tmp_path / "made", rows, weights, splits={"r1": "dev"}, embeddings=embeddings)


@given(rows=ROWS, column=st.sampled_from(COLUMNS), is_descending=st.booleans())
def test_rows_are_sorted_as_python_sorts_them_with_the_unknown_last(rows, column, is_descending):
    table = table_of(rows)

    order = sorted_places(table, Sorting(column.name, is_descending=is_descending)).tolist()

    values = [one[column.name] for one in rows]
    known = [place for place, value in enumerate(values) if value is not None]
    unknown = [place for place, value in enumerate(values) if value is None]
    # both of Python's ways keep equal ones in their order
    assert order == sorted(known, key=values.__getitem__, reverse=is_descending) + unknown


@given(
    rows=ROWS,
    words=NAMES,
    picked=st.frozensets(
        st.sampled_from([("origin", "real"), ("split", "dev"), ("split", "train"), ("source", "a")])
    ),
    found=st.none() | st.sets(st.integers(0, 11)),
    marked=st.none() | st.lists(NAMES, max_size=2),
)
def test_rows_are_shown_that_pass_every_filter(rows, words, picked, found, marked):
    places = None if found is None else np.array([p for p in found if p < len(rows)], np.int64)
    filters = Filters(
        words=words,
        picked=picked,
        found=None if places is None else ("x", places),
        is_marked=marked is not None,
    )

    shown = is_shown(table_of(rows), filters, marked or ())

    def passes(place: int, one: dict[str, Any]) -> bool:
        named = any(words.lower() in one[name].lower() for name in ("traj_id", "source"))
        columns = {column for column, _ in picked}
        is_picked = all((column, one[column]) in picked for column in columns)
        is_found = found is None or place in found
        return named and is_picked and is_found and (marked is None or one["traj_id"] in marked)

    assert shown.tolist() == [passes(place, one) for place, one in enumerate(rows)]


def test_percentiles_are_shares_of_learned_weights_below_and_half_of_those_equal(run):
    rows = load_rows(run)

    assert rows["traj_id"].to_list() == ["s0", "s1", "s2", "s3", "r0", "r1"]
    assert rows["place"].to_list() == list(range(6))
    assert rows["percentile"].to_list() == [25.0, 62.5, 25.0, 87.5, None, None]
    assert rows["weight"].to_list() == [0.4, 1.2, 0.4, 2.0, 1.0, None]
    assert rows["reward"].to_list() == [0.0, 0.1, 0.2, 0.3, None, None]


def test_weights_in_another_order_find_their_rows(run):
    before = load_rows(run)
    run.save_table("weights", run.table("weights").reverse())

    assert load_rows(run).equals(before)


@pytest.mark.parametrize("gone", ["weights", "rows"])
def test_weights_of_other_rows_are_refused(run, gone):
    table = run.table("weights")
    if gone == "weights":
        run.save_table("weights", table.head(4))
    else:
        more = table.tail(1).with_columns(traj_id=pl.lit("stranger"))
        run.save_table("weights", pl.concat([table, more]))

    with pytest.raises(RunError, match="names other rows than the weights"):
        load_rows(run)


def test_what_models_said_of_a_row_is_told_where_it_is_known(run):
    assert measured(run, "s2") == {"base_nll": 2.0, "n_assistant_tokens": 3}

    pl.DataFrame(
        {"traj_id": ["s1", "s2"], "weight_low": [0.1, 0.2], "weight_high": [1.0, 2.0]}
    ).write_parquet(run.folder / "ensemble.parquet")
    assert measured(run, "s2") == {
        "base_nll": 2.0,
        "n_assistant_tokens": 3,
        "weight_low": 0.2,
        "weight_high": 2.0,
    }
    (run.folder / "features.parquet").unlink()
    assert measured(run, "s0") == {}


def test_a_search_finds_what_turns_say_and_nothing_else():
    call = {"name": "look", "arguments": {"query": "Träume"}, "id": "c1"}
    rows: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": 'Assistant\'s "word"\nwith\\breaks'}],
        [{"role": "assistant", "content": "", "reasoning": "HIDDEN thought"}],
        [{"role": "assistant", "content": "", "tool_calls": [call]}],
        [{"role": "assistant", "content": "", "tool_calls": [{**call, "arguments": "no {json"}]}],
    ]
    batches = batch_of(*rows[:1]), batch_of(*rows[1:])

    expected = {
        "assistant": [0],  # which is the role of others
        "hidden": [1],
        "LOOK": [2, 3],
        "TRÄUME": [2],
        '"query":"tr': [2],  # as the reader shows it
        '"word"\nwith\\': [0],
        "no {json": [3],
        "content": [],
        "\\n": [],
    }
    assert {words: found_by(words, *batches) for words in expected} == expected


@given(
    texts=st.lists(st.text('aAbß"\\\n\tİ\u017f\x7f', max_size=4), max_size=5),
    words=st.text('aAbß"\\\n\tİ\u017f\x7f', min_size=1, max_size=2),
)
def test_the_fast_search_agrees_with_the_plain_one(texts, words):
    batch = batch_of(*([{"role": "user", "content": text}] for text in texts))

    plain = [at for at, text in enumerate(texts) if words.casefold() in text.casefold()]
    assert found_by(words, batch) == plain


def test_a_search_that_is_ended_looks_no_further():
    batches = iter([batch_of([{"role": "user", "content": "a"}])] * 3)

    told = list(search(batches, "a", is_ended=lambda: True))

    assert told == [(1, [0])]
    assert len(list(batches)) == 2


def test_the_heaviest_and_the_lightest_are_of_the_rows_shown():
    weights = np.array([5.0, 1.0, np.nan, 0.5, 3.0])

    assert extreme(weights, np.array([1, 2, 4]), is_heaviest=True) == 2
    assert extreme(weights, np.array([2, 4, 1]), is_heaviest=False) == 2
    assert extreme(weights, np.array([2]), is_heaviest=True) is None
    assert extreme(weights, np.array([], np.int64), is_heaviest=True) is None


def test_a_row_has_a_position_only_where_it_is_shown():
    order = np.array([3, 0, 2])

    assert [position_of(order, place) for place in (0, 1, None)] == [1, None, None]


def test_values_are_listed_from_the_most_frequent_on_and_no_more_than_asked():
    rows = table_of([])
    sources = pl.Series("source", ["b", "a", "c", "c"])

    assert values_of(rows.clear(4).with_columns(source=sources), "source", most=2) == [
        ("c", 2),
        ("a", 1),
    ]


def test_filters_are_told_in_words_without_control_characters():
    filters = Filters(
        words="\x1b[31m",
        picked=frozenset({("source", "b\x07"), ("source", "a"), ("origin", "real")}),
        found=("x\ny", np.array([1])),
        is_marked=True,
    )

    assert filters_told(filters) == [
        r"id or source has '\x1b[31m'",
        "origin real",
        r"source a, b\x07",
        "turns say 'x y'",
        "marked rows only",
    ]
    assert not filters_told(Filters())

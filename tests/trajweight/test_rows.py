"""Laws of what is done with rows on the way: problems are flagged, told, counted, and mended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from trajweight.reading import Reading, original_row, read_trajectories
from trajweight.rows import MAPPABLE, Layout, Treatment

if TYPE_CHECKING:
    from pathlib import Path

ASKS = {"role": "user", "content": "Hi"}
ANSWERS = {"role": "assistant", "content": "Hello"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(path: Path, *rows: dict[str, Any] | str, **treatment: Any) -> Reading:
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts))
    found = read_trajectories([path], layout=Layout(), treatment=Treatment(**treatment))
    assert found.n_read == found.table.height + len(found.rejected)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def said(reading: Reading, text: str) -> bool:
    return any(text in note for note in reading.notes)


ODD: dict[str, Any] = {
    "id": "odd",
    "messages": [
        ASKS,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "9", "content": "<|im_end|>"},
        ANSWERS,
        {"role": "user", "content": " "},
    ],
    "kept": {"whatever": [1, None]},
}
#: A result without its call and the call without a result, and a user turn that is empty and last.
CODES = "orphan-result,call-without-result,empty-turn,trailing-user-turn,control-tokens"


def test_problems_stand_in_their_column_and_a_plain_row_has_none(path: Path):
    reading = read(path, {"messages": [ASKS, ANSWERS]}, ODD)

    assert reading.table["problems"].to_list() == [None, CODES]


def test_a_problem_is_told_with_its_line_and_the_number_of_rows(path: Path):
    reading = read(path, *[{"messages": [ASKS, ANSWERS, ASKS]}] * 7)

    told = [note for note in reading.notes if "trailing-user-turn" in note]
    assert told == [
        f"{path}: trailing-user-turn (the last turn is a user or system turn, from which nothing "
        "is learned): 7 rows",
        f"{path}:1: trailing-user-turn: turn 3 is a user turn, and the last",
        f"{path}:2: trailing-user-turn: turn 3 is a user turn, and the last",
    ]


def test_without_repair_nothing_is_mended(path: Path):
    reading = read(path, ODD)

    assert reading.table["n_turns"].to_list() == [5]
    assert not said(reading, "repaired")


def test_repair_mends_what_it_can_flags_the_rest_and_keeps_the_row(path: Path):
    reading = read(path, ODD, ODD, repair=True)

    row = reading.table.row(0, named=True)
    assert row["problems"] == "call-without-result,control-tokens"
    assert (row["n_turns"], row["n_assistant_turns"], row["n_tool_calls"]) == (4, 2, 1)
    assert [turn["role"] for turn in json.loads(row["messages_json"])] == [
        *("user", "assistant", "user", "assistant"),
    ]
    assert json.dumps(original_row(row)) == json.dumps(ODD)
    mended = "orphan-result 2, empty-turn 2"
    assert said(reading, f"{path}: rows repaired, by what was wrong: {mended}")


def test_repair_changes_no_row_that_is_right(path: Path):
    rows = [{"messages": [ASKS, ANSWERS, ASKS, ANSWERS], "n": n} for n in range(3)]

    mended, plain = read(path, *rows, repair=True), read(path, *rows)

    assert mended.table.equals(plain.table)
    assert mended.notes == plain.notes


@pytest.mark.parametrize("text", ["x" * 500, "é" * 250, "漢" * 167])
def test_the_size_of_a_row_is_counted_in_bytes(path: Path, text: str):
    row = json.dumps({"messages": [ASKS, {**ANSWERS, "content": text}]}, ensure_ascii=False)
    n = len(row.encode())

    assert read(path, row, max_row_bytes=n).table["problems"].to_list() == [None]
    reading = read(path, row, max_row_bytes=n - 1)
    assert reading.table["problems"].to_list() == ["row-too-large"]
    assert said(reading, f"{path}:1: row-too-large: {n} bytes, more than {n - 1}")


def test_the_size_of_a_row_of_a_document_is_its_own(tmp_path: Path):
    messages = [ASKS, {"role": "assistant", "content": "é" * 300}]
    simulations = [
        {"id": f"s{n}", "task_id": "t", "messages": some, "reward_info": {"reward": 1.0}}
        for n, some in enumerate([messages, [ASKS, ANSWERS]])
    ]
    document = {"info": {}, "tasks": ["x" * 2000], "simulations": simulations}

    reading = read(tmp_path / "tau.jsonl", document, max_row_bytes=600)

    problems = [(codes or "").split(",") for codes in reading.table["problems"]]
    assert ["row-too-large" in codes for codes in problems] == [True, False]


def test_a_limit_reads_the_first_rows_of_each_file(tmp_path: Path):
    paths = []
    for name in "ab":
        paths.append(tmp_path / f"{name}.jsonl")
        rows = [{"messages": [ASKS, ANSWERS], "id": f"{name}{n}"} for n in range(5)]
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))

    reading = read_trajectories(paths, treatment=Treatment(limit=2))

    assert reading.n_read == 4
    assert reading.table["traj_id"].to_list() == ["a0", "a1", "b0", "b1"]


def test_a_repeated_id_is_flagged_where_the_suffix_was_added(path: Path):
    chat = {"messages": [ASKS, ANSWERS]}

    reading = read(path, {**chat, "id": "a"}, {**chat, "id": "a"}, {**ODD, "id": "a"})

    assert reading.table["problems"].to_list() == [
        None,
        "duplicate-row-id",
        f"{CODES},duplicate-row-id",
    ]


def test_a_number_that_is_none_is_told_once_of_a_document_of_many_rows(tmp_path: Path):
    simulation = {"id": "s", "task_id": "t", "messages": [ASKS, ANSWERS], "reward_info": {}}
    document = {"info": {}, "tasks": [], "simulations": [simulation] * 4}
    text = json.dumps(document)[:-1] + ', "cost": NaN}'

    reading = read(tmp_path / "tau.jsonl", text)

    assert reading.table.height == 4
    assert sum("cost is NaN" in note for note in reading.notes) == 1


def test_the_help_of_map_names_all_that_can_be_mapped():
    from trajweight.cli._options import MAPPED

    assert MAPPED.replace(" or ", ", ").split(", ") == list(MAPPABLE)

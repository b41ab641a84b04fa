"""Laws of reading: every line is kept or rejected, said and counted; nothing is lost."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.errors import ConfigError, DataError
from trajweight.manifest import input_facts
from trajweight.progress import Progress
from trajweight.reading import (
    Account,
    Layout,
    OriginLabels,
    Reading,
    original_row,
    read_into,
    read_trajectories,
    table_schema,
    trajectory_of,
)
from trajweight.storage import Storage
from trajweight.trajectory import TEXT_COLUMNS, TRAJECTORY_COLUMNS

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def row(**extra: Any) -> dict[str, Any]:
    return {"messages": CHAT, **extra}


def write(path: Path, *rows: Any, end: str = "\n") -> Path:
    texts = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    path.write_bytes("".join(text + end for text in texts).encode())
    return path


def read(*paths: Path, **labels: Any) -> Reading:
    reading = read_trajectories(paths, labels=OriginLabels(**labels))
    assert reading.n_read == len(reading.table) + len(reading.rejected)
    assert reading.table.schema == table_schema()
    return reading


def read_rows(tmp_path: Path, *rows: Any, **labels: Any) -> Reading:
    return read(write(tmp_path / "data.jsonl", *rows), **labels)


def said(reading: Reading, text: str) -> bool:
    return any(text in note for note in reading.notes)


# Containers


def test_columns_are_the_contract(tmp_path):
    reading = read_rows(tmp_path, row())

    assert reading.table.columns == list(TRAJECTORY_COLUMNS)


def test_one_row_is_enough(tmp_path):
    reading = read_rows(tmp_path, row(id="a"))

    only = reading.table.row(0, named=True)
    assert (only["traj_id"], only["n_turns"], only["n_assistant_turns"]) == ("a", 2, 1)
    assert (only["n_chars"], only["origin_row"], only["source"]) == (7, 1, "data")


@pytest.mark.parametrize("name", ["data.jsonl.gz", "data.jsonl"])
def test_gzip_is_known_by_its_content(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(json.dumps(row()).encode()))

    assert read(path).table["traj_id"].to_list() == ["data:1"]


def test_gzip_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row()).encode() + b"\n") * 3)

    assert len(read(path).table) == 3


def test_truncated_gzip_keeps_what_was_read_and_says_where_it_broke(tmp_path):
    lines = [json.dumps(row(id=i, noise=[math.sin(i * j) for j in range(50)])) for i in range(300)]
    whole = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])

    reading = read(path)

    n = len(reading.table)
    assert 0 < n < 300
    (broken,) = reading.rejected
    assert broken.line == n + 1
    assert "gzip stream breaks off" in broken.reason
    assert lines[n].startswith(broken.text)


def test_gzip_with_a_wrong_checksum_keeps_all_rows(tmp_path):
    whole = bytearray(gzip.compress(json.dumps(row()).encode() + b"\n"))
    whole[-8] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole)

    reading = read(path)

    assert (len(reading.table), [r.line for r in reading.rejected]) == (1, [2])


def test_missing_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read(tmp_path / "nowhere.jsonl")


def test_folder_is_all_its_files_and_one_of_nothing_an_error(tmp_path):
    with pytest.raises(DataError, match="no file to read") as caught:
        read(tmp_path)
    assert ".jsonl" in caught.value.hint

    write(tmp_path / "b.jsonl", row(id="b"))
    (tmp_path / "a.json").write_text(json.dumps([row(id="a1"), row(id="a2")], indent=1))
    (tmp_path / "notes.md").touch()

    reading = read(tmp_path)

    assert reading.table["traj_id"].to_list() == ["a1", "a2", "b"]
    assert reading.table["origin_path"].to_list()[::2] == [
        str(tmp_path / "a.json"),
        str(tmp_path / "b.jsonl"),
    ]
    assert said(reading, "1 skipped, of other endings: notes.md")


def test_file_of_no_known_format_in_a_folder_is_rejected_and_the_others_are_read(tmp_path):
    write(tmp_path / "a.jsonl", row(id="a"))
    (tmp_path / "config.json").write_text('{\n"threads": 3\n}')

    reading = read(tmp_path)

    assert reading.table["traj_id"].to_list() == ["a"]
    (rejected,) = reading.rejected
    assert "keys seen: threads" in rejected.reason
    with pytest.raises(DataError, match="of no known format"):
        read(tmp_path / "config.json")


def test_file_named_twice_in_any_way_is_read_once(tmp_path):
    path = write(tmp_path / "a.jsonl", row(id="a"))

    reading = read(tmp_path, path, tmp_path / "*.jsonl", real_paths=(tmp_path,))

    assert reading.table["traj_id"].to_list() == ["a"]
    assert reading.table["origin"].to_list() == ["real"]
    assert said(reading, "a.jsonl: given more than once; read once")


def test_every_file_that_was_read_is_told_with_its_hash(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", row(id=name)) for name in "ab"]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(row(id="c")).encode()))

    reading = read(*paths, real_paths=(tmp_path / "c.jsonl.gz",))

    expected = [input_facts(path) for path in (*paths, tmp_path / "c.jsonl.gz")]
    assert reading.inputs == expected


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_nothing_at_all_is_an_error(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)

    with pytest.raises(DataError, match="nothing to read"):
        read(path)


def test_no_files_is_an_error():
    with pytest.raises(DataError, match="no files"):
        read()


def test_empty_file_beside_a_full_one_is_a_note(tmp_path):
    (tmp_path / "empty.jsonl").touch()

    reading = read(tmp_path / "empty.jsonl", write(tmp_path / "full.jsonl", row()))

    assert len(reading.table) == 1
    assert said(reading, "empty.jsonl: the file is empty")


def test_byte_order_mark_windows_line_ends_and_blank_lines_change_nothing(tmp_path):
    plain = write(tmp_path / "data.jsonl", row(id=1), row(id=2))
    expected = read(plain).table.drop("origin_row")
    text = "\ufeff" + "\r\n".join(["", json.dumps(row(id=1)), " ", json.dumps(row(id=2)), ""])
    plain.write_bytes(text.encode())

    reading = read(plain)

    assert reading.table.drop("origin_row").equals(expected)
    assert reading.table["origin_row"].to_list() == [2, 4]


def test_line_separators_of_unicode_do_not_end_a_line(tmp_path):
    messages = [CHAT[0], {"role": "assistant", "content": "a\u2028b\x85c"}]
    path = tmp_path / "data.jsonl"
    path.write_bytes(orjson.dumps({"messages": messages}))

    turns = trajectory_of(read(path).table.row(0, named=True)).turns

    assert turns[1].content == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"PAR1....", "is damaged"),
        (b"PK\x03\x04..", "zip"),
        ('{"messages": []}'.encode("utf-16"), "UTF-16"),
        (b"SQLite format 3\x00", "SQLite"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, match):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)

    with pytest.raises(DataError, match=match) as caught:
        read(path)

    assert caught.value.hint


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_of_an_array_are_rows_like_any_other(tmp_path, indent):
    rows = [row(id=f"r{i}", reward=i) for i in range(3)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps([*rows, {"messages": 3}], indent=indent))

    reading = read(path)

    lines = read_rows(tmp_path, *rows)
    differ = ("origin_path",)
    assert reading.table.drop(differ).equals(lines.table.drop(differ))
    assert [(each.line, each.reason) for each in reading.rejected] == [
        (4, "messages is a number, not a list of turns")
    ]


def test_row_of_ten_megabytes_is_read(tmp_path):
    long = "word " * 2_000_000
    messages = [CHAT[0], {"role": "assistant", "content": long}]

    reading = read_rows(tmp_path, {"messages": messages}, row())

    assert reading.table["n_chars"].to_list() == [len(long) + 2, 7]


def test_rows_beyond_one_batch_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("trajweight.rowreader._BATCH_ROWS", 3)

    reading = read_rows(tmp_path, *(row(id=i) for i in range(10)))

    assert reading.table["traj_id"].to_list() == [str(i) for i in range(10)]


def test_progress_hears_of_every_line(tmp_path):
    heard = []

    class Watcher(Progress):
        def advance(self, units: int = 1, **facts: float) -> None:
            heard.append(units)

    path = write(tmp_path / "data.jsonl", row(), "broken", row())
    read_trajectories([path], labels=OriginLabels(), progress=Watcher())

    assert sum(heard) == 3


# Lines


def test_broken_line_is_named_by_number_and_the_rest_is_read(tmp_path):
    broken = '{"messages": [}'

    reading = read_rows(tmp_path, row(), row(), broken, row())

    (rejection,) = reading.rejected
    path = str(tmp_path / "data.jsonl")
    assert len(reading.table) == 3
    assert rejection.as_dict() == {
        "path": path,
        "line": 3,
        "reason": rejection.reason,
        "text": broken,
        "row": 2,
    }
    assert "not JSON" in rejection.reason
    assert "column 15" in rejection.reason
    assert said(reading, "1 of 4 rows rejected")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": "\xff"}', "not UTF-8: byte 0xff at position 15"),
        (b"[1]", "keys seen: a list"),
        (b'"text"', "the row is text"),
        (b"{}", "no known format"),
        (b'{"a": 1}', "keys seen: a"),
        (b'{"messages": []}', "messages is empty"),
        (b'{"messages": 5}', "messages is a number"),
        (b'{"messages": "[1"}', "messages is text, but not JSON"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"x": "\\ud800"}', "half of a surrogate pair"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b"NaN", "the row is null"),
    ],
)
def test_unusable_line_is_rejected_with_its_reason(tmp_path, line, reason):
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b"\n" + line)

    reading = read(path)

    (rejection,) = reading.rejected
    assert rejection.line == 2
    assert reason in rejection.reason
    json.dumps(rejection.as_dict()).encode()


@pytest.mark.parametrize("depth", [200, 300, 900, 1020])
def test_nesting_is_kept_or_rejected_and_never_a_crash(tmp_path, depth):
    deep = json.dumps(row())[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"

    reading = read_rows(tmp_path, deep)

    if depth < 250:
        assert original_row(reading.table.row(0, named=True)) == json.loads(deep)
    else:
        assert "nested too deeply" in reading.rejected[0].reason


def test_whole_numbers_of_any_size_survive(tmp_path):
    numbers = [2**70, -(2**80), 2**64, 2**63, 10**30]

    reading = read_rows(tmp_path, row(numbers=numbers))

    assert original_row(reading.table.row(0, named=True))["numbers"] == numbers


# Scalars


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_reward_that_is_not_finite_is_unknown_and_noted(tmp_path, value):
    text = json.dumps(row(id="a"))[:-1] + f', "reward": {value}, "score": 0.5}}'

    reading = read_rows(tmp_path, row(), text)

    path = tmp_path / "data.jsonl"
    assert reading.table["reward"].to_list() == [None, None]
    assert f"{path}:2: reward is {value}; read as unknown" in reading.notes
    assert original_row(reading.table.row(1, named=True))["reward"] is None


def test_nan_elsewhere_is_null_and_noted(tmp_path):
    text = json.dumps(row())[:-1] + ', "metrics": {"loss": [1.0, NaN]}, "big": 1e999}'

    reading = read_rows(tmp_path, text)

    original = original_row(reading.table.row(0, named=True))
    assert original["metrics"] == {"loss": [1.0, None]}
    assert said(reading, "metrics.loss.1 is NaN; read as null")
    assert said(reading, "big is Infinity; read as null")


def test_many_notes_of_a_kind_are_counted(tmp_path):
    text = json.dumps(row())[:-1] + ', "reward": NaN}'

    reading = read_rows(tmp_path, *[text] * 12)

    assert sum("reward is NaN" in note for note in reading.notes) == 5
    assert said(reading, "7 more such notes on reward")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.25, 0.25), (True, 1.0), (False, 0.0), ("0.5", None), ({}, None), (10**400, None)],
)
def test_reward_is_a_number_or_unknown(tmp_path, value, expected):
    reading = read_rows(tmp_path, row(reward=value))

    assert reading.table["reward"].to_list() == [expected]
    assert said(reading, "read as unknown") == (expected is None)


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (0, False), (1.0, True), ("yes", None), (2, None)]
)
def test_success_is_a_truth_value_or_unknown(tmp_path, value, expected):
    reading = read_rows(tmp_path, row(resolved=value))

    assert reading.table["success"].to_list() == [expected]
    assert said(reading, "read as unknown") == (expected is None)


def test_ids_come_from_the_row_or_its_place_and_are_unique(tmp_path):
    reading = read_rows(
        tmp_path, row(id=7), row(id="7"), row(), row(id="7#2"), row(uuid="u", id="")
    )

    assert reading.table["traj_id"].to_list() == ["7", "7#3", "data:3", "7#2", "u"]
    assert said(reading, "1 rows repeat an id")


def test_weight_field_of_the_input_is_left_alone(tmp_path):
    reading = read_rows(tmp_path, row(weight=0.3))

    assert original_row(reading.table.row(0, named=True)) == row(weight=0.3)


def test_detection_is_told(tmp_path):
    reading = read_rows(tmp_path, *[row(reward=1, origin="real", model="m")] * 3)

    assert said(
        reading,
        "detected: OpenAI messages, 3 rows, source from field model, "
        "reward from field reward, origin from field origin",
    )


# Origins


@pytest.mark.parametrize(
    ("value", "expected"),
    [("real", "real"), ("human", "real"), ("Synthetic", "synthetic"), ("generated", "synthetic")],
)
def test_origin_comes_from_its_field(tmp_path, value, expected):
    assert read_rows(tmp_path, row(origin=value)).table["origin"].to_list() == [expected]


@pytest.mark.parametrize("value", ["who knows", 3, {}])
def test_unknown_origin_is_rejected(tmp_path, value):
    reading = read_rows(tmp_path, row(provenance=value))

    assert "known values are real" in reading.rejected[0].reason


def test_labels_overrule_the_field(tmp_path):
    rows = [row(source="a", origin="synthetic"), row(source="b", origin="real"), row(origin="real")]

    reading = read_rows(
        tmp_path, *rows, real_sources=frozenset({"a"}), synthetic_sources=frozenset({"b"})
    )

    assert reading.table["origin"].to_list() == ["real", "synthetic", "real"]


def test_real_file_makes_its_rows_real_and_is_read_too(tmp_path):
    data = write(tmp_path / "data.jsonl", row())
    real = write(tmp_path / "real.jsonl", row(origin="synthetic"), row(source="s"))

    reading = read(data, real_paths=(real,), synthetic_sources=frozenset({"s"}))

    assert reading.table["origin"].to_list() == ["synthetic", "real", "real"]


def test_rows_that_say_nothing_are_synthetic_and_counted(tmp_path):
    reading = read_rows(tmp_path, row(), row(), row(origin="real"))

    assert reading.table["origin"].to_list() == ["synthetic", "synthetic", "real"]
    assert said(reading, "2 rows do not say their origin; read as synthetic")


def test_label_of_an_unseen_source_is_said(tmp_path):
    reading = read_rows(tmp_path, row(source="b"), real_sources=frozenset({"a"}))

    assert said(reading, "source 'a' is labelled, but no row has it; sources seen: b")


def test_source_labelled_twice_is_refused():
    with pytest.raises(ConfigError, match="both real and synthetic"):
        OriginLabels(real_sources=frozenset({"a"}), synthetic_sources=frozenset({"a"}))


def test_file_given_twice_is_read_once(tmp_path):
    path = write(tmp_path / "data.jsonl", row())

    reading = read(path, path, tmp_path / "." / "data.jsonl")

    assert len(reading.table) == 1
    assert said(reading, "read once")


# Tasks and families


def asking(text: str, **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, CHAT[1]], **extra}


def test_rows_with_the_same_opening_are_one_task(tmp_path):
    reading = read_rows(tmp_path, asking("a"), asking("b"), asking("a"), asking("c", task_id="t"))

    a, b, again, named = reading.table["task_id"].to_list()
    assert a == again != b
    assert named == "t"
    assert said(reading, "3 rows name no task")


def test_opening_shared_by_most_rows_tells_no_task(tmp_path):
    reading = read_rows(tmp_path, *[asking("Play the game.")] * 5, asking("x"), asking("x"))

    tasks = reading.table["task_id"].to_list()
    assert len(set(tasks[:5])) == 5
    assert tasks[5] == tasks[6]
    assert said(reading, "5 rows name no task and begin with a user turn")


def test_child_and_parent_are_one_family(tmp_path):
    rows = [
        row(id="root"),
        row(id="child", parent_id="root"),
        row(id="grandchild", parent_id="child"),
        row(id="orphan", parent_id="gone"),
        row(id="other", group_id="g"),
        row(id="of-other", parent_id="other"),
        row(id="alone"),
    ]

    groups = read_rows(tmp_path, *rows).table["group_id"].to_list()

    assert groups == ["root", "root", "root", "gone", "g", "g", None]


def test_rows_that_are_each_others_parents_do_not_hang(tmp_path):
    reading = read_rows(tmp_path, row(id="a", parent_id="b"), row(id="b", parent_id="a"))

    assert len(reading.table) == 2


# Losslessness

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
CALL = st.fixed_dictionaries(
    {
        "id": st.text(max_size=3),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {
                "name": st.text(min_size=1, max_size=5),
                "arguments": JSON | st.dictionaries(st.text(max_size=3), JSON).map(json.dumps),
            }
        ),
    }
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]),
        "content": st.none() | st.text(max_size=10),
    },
    optional={
        "tool_calls": st.none() | st.lists(CALL, max_size=2),
        "tool_call_id": st.text(max_size=3),
        "reasoning_content": st.none() | st.text(max_size=3),
        "name": st.none() | st.text(max_size=3),
        "weight": JSON,
    },
)
ITEM = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["system", "human", "gpt", "observation", "tool"]),
        "value": st.text(max_size=10),
    },
    optional={"loss": JSON},
)
TOOLS = (
    st.none() | JSON | st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=2), max_size=2)
)
EXTRAS = st.dictionaries(
    st.sampled_from(["id", "reward", "source", "tools", "functions", "system", "weight", "x"]), JSON
)


@st.composite
def rows(draw):
    is_sharegpt = draw(st.booleans())
    turns = draw(st.lists(ITEM if is_sharegpt else MESSAGE, min_size=1, max_size=4))
    reply = (
        {"from": "gpt", "value": "ok"} if is_sharegpt else {"role": "assistant", "content": "ok"}
    )
    key = "conversations" if is_sharegpt else "messages"
    items = list({key: [*turns, reply], **draw(EXTRAS), "tools": draw(TOOLS)}.items())
    return dict(draw(st.permutations(items)))


@settings(max_examples=150, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=5))
def test_every_row_comes_back_as_it_stood(tmp_path_factory, originals):
    path = write(tmp_path_factory.mktemp("lossless") / "data.jsonl", *originals)

    reading = read(path)

    assert not reading.rejected
    back = [original_row(r) for r in reading.table.iter_rows(named=True)]
    parsed = [json.loads(json.dumps(original)) for original in originals]
    # Text tells more than ==: the order of keys, 1 from 1.0 and from true.
    assert [json.dumps(r) for r in back] == [json.dumps(r) for r in parsed]


def test_null_beside_its_older_spelling_stays_null(tmp_path):
    original = row(tools=None, functions=[{"name": "f"}])

    assert original_row(read_rows(tmp_path, original).table.row(0, named=True)) == original


def test_plain_rows_are_stored_once(tmp_path):
    sharegpt = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    called = {"name": "f", "arguments": '{"a": 1}'}
    calls = [{"id": "1", "type": "function", "function": called}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    acting = {"role": "assistant", "content": None, "tool_calls": calls}
    openai = {"messages": [CHAT[0], acting], "tools": tools}

    reading = read_rows(tmp_path, sharegpt, openai)

    assert reading.table["extra_json"].to_list() == [
        '{"conversations":null}',
        '{"messages":null,"tools":null}',
    ]


def test_content_hash_is_of_messages_and_tools_alone(tmp_path):
    same = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}

    hashes = read_rows(tmp_path, row(id=1), same, row(tools=[{"name": "f"}])).table[
        "content_sha256"
    ]

    assert hashes[0] == hashes[1] != hashes[2]


def test_table_survives_parquet(tmp_path):
    table = read_rows(tmp_path, row(x=2**70)).table
    table.write_parquet(tmp_path / "t.parquet")

    back = pl.read_parquet(tmp_path / "t.parquet").row(0, named=True)

    assert original_row(back) == row(x=2**70)


# Into a folder


def read_to(folder: Path, *paths: Path, jobs: int = 1, **labels: Any) -> Account:
    folder.mkdir()
    return read_into(
        Storage(folder),
        paths,
        labels=OriginLabels(**labels),
        layout=Layout(),
        progress=Progress(),
        jobs=jobs,
    )


def several_files(tmp_path: Path) -> list[Path]:
    """Files that need each other: repeated ids, a family over two files, a shared opening."""
    child = row(id="twice", parent_id="root")
    same = [row(id="twice"), child, "broken", row(tools=[{"name": "f"}])]
    other = [row(id="root", origin="real"), row(id="twice"), *[asking(f"{i}") for i in range(20)]]
    return [
        write(tmp_path / "a.jsonl", *same),
        write(tmp_path / "empty.jsonl"),
        write(tmp_path / "b.jsonl", *other, "{}", row(reward="high")),
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_folder_holds_what_would_be_in_memory(tmp_path, monkeypatch):
    paths = several_files(tmp_path)
    expected = read(*paths, real_sources=frozenset({"gone"}))
    monkeypatch.setattr("trajweight.rowreader._BATCH_ROWS", 3)
    monkeypatch.setattr("trajweight.storage._PART_ROWS", 5)
    monkeypatch.setattr("trajweight.storage._TABLE_ROWS", 4)

    account = read_to(tmp_path / "run", *paths, real_sources=frozenset({"gone"}))

    found = pl.concat(Storage(tmp_path / "run").batches(*TEXT_COLUMNS))
    assert found.equals(expected.table)
    lines = (tmp_path / "run" / "rejected.jsonl").read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [r.as_dict() for r in expected.rejected]
    assert account.first_rejected == expected.rejected[0]
    assert account.notes == expected.notes
    assert account.inputs == expected.inputs
    assert (account.n_read, account.n_kept) == (expected.n_read, len(expected.table))
    assert account.n_read == account.n_kept + account.n_rejected
    assert len(list((tmp_path / "run" / "conversations").iterdir())) > 2


def test_what_is_written_does_not_depend_on_how_many_processes_read(tmp_path, monkeypatch):
    paths = several_files(tmp_path)
    monkeypatch.setattr("trajweight.reading._PROCESS_BYTES", 1)
    monkeypatch.setattr("trajweight.reading._GROUP_BYTES", 1)  # a file a process

    accounts = [read_to(tmp_path / f"{jobs}", *paths, jobs=jobs) for jobs in (1, 3)]

    assert accounts[0] == accounts[1]
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "3")
    assert "conversations/00001-00000.parquet" in bytes_of(tmp_path / "1")


@pytest.mark.parametrize("jobs", [1, 2])
def test_reading_that_fails_leaves_no_texts_behind(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr("trajweight.reading._PROCESS_BYTES", 1)
    monkeypatch.setattr("trajweight.reading._GROUP_BYTES", 1)
    good = write(tmp_path / "good.jsonl", row())
    unknown = write(tmp_path / "unknown.jsonl", {"a": 1})

    with pytest.raises(DataError, match=r"unknown\.jsonl.*no known format"):
        read_to(tmp_path / "run", good, unknown, good, jobs=jobs)

    assert list((tmp_path / "run").iterdir()) == []


def test_an_interruption_while_reading_leaves_no_texts_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("trajweight.rowreader._BATCH_ROWS", 1)
    monkeypatch.setattr("trajweight.storage._PART_ROWS", 1)
    path = write(tmp_path / "data.jsonl", *[row()] * 200)
    written = []

    class Impatient(Progress):
        def advance(self, units: int = 1, **facts: float) -> None:
            written.extend((tmp_path / "run" / "conversations").iterdir())
            raise KeyboardInterrupt

    (tmp_path / "run").mkdir()
    with pytest.raises(KeyboardInterrupt):
        read_into(
            Storage(tmp_path / "run"),
            [path],
            labels=OriginLabels(),
            layout=Layout(),
            progress=Impatient(),
        )

    assert written
    assert list((tmp_path / "run").iterdir()) == []


PEAK = """
import sys
from pathlib import Path
from trajweight import storage
from trajweight.config import DataConfig
from trajweight.job import ingest
from trajweight.progress import Progress

storage._PART_BYTES = 4 << 20
ingest(DataConfig(paths=(sys.argv[1],)), Path(sys.argv[2]), force=False, progress=Progress())
heavy = {"torch", "transformers", "peft", "datasets", "sklearn", "matplotlib"} & set(sys.modules)
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024, *heavy)
"""


# The peak of getrusage would be that of this process, if it is larger.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak on Linux only")
def test_memory_does_not_grow_with_the_file_and_no_heavy_library_is_loaded(tmp_path):
    text = " ".join(f"word{i}" for i in range(5000))
    lines = [json.dumps(asking(f"{i} {text}")) + "\n" for i in range(50)]  # two megabytes
    peaks = []
    for n in (8, 40):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("".join(lines * n))
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"run{n}")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert said[1:] == []
        peaks.append(int(said[0]))

    assert peaks[1] < peaks[0] + 20  # megabytes, for 64 more of them read
    assert peaks[1] < 400

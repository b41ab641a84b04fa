"""Laws of the file of marks: it holds what was marked, and nothing else is taken for marks."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.runs import make_run, row
from trajweight.cli._marks import Marks, load_marks, marks_file
from trajweight.errors import ConfigError, DataError, TrajweightError

IDS = pl.Series(["a", "b", "c\x1b[31m"])
WEIGHTS = {"a": 1.5, "b": None, "c\x1b[31m": 0.25}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["m.jsonl", "new/m.jsonl.gz"])
def test_marks_come_back_in_their_order_with_their_notes(tmp_path, name):
    marks = Marks(tmp_path / name)
    marks.toggle("c\x1b[31m")
    marks.note("a", 'why "so"\n')
    marks.toggle("b")
    was_written = marks.is_written

    n_lines = marks.write(WEIGHTS)

    assert (was_written, n_lines, marks.is_written) == (False, 3, True)
    again = load_marks(tmp_path / name, IDS)
    assert list(again.notes.items()) == [("c\x1b[31m", ""), ("a", 'why "so"\n'), ("b", "")]
    assert again.is_written


def test_a_line_has_an_id_a_weight_and_a_note_where_one_was_given(tmp_path):
    marks = Marks(tmp_path / "m.jsonl")
    marks.toggle("b")
    marks.note("a", "good")
    marks.write(WEIGHTS)

    assert lines(marks.path) == [
        {"id": "b", "weight": None},
        {"id": "a", "weight": 1.5, "note": "good"},
    ]


def test_a_mark_that_is_set_twice_is_gone_with_its_note():
    marks = Marks(Path("m.jsonl"))
    marks.note("a", "good")
    marks.toggle("a")

    assert not marks.notes
    assert not marks.is_written


def test_marks_of_rows_of_another_run_stay_in_the_file(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id":"z","weight":2.0,"by":"me"}\n{"id":"a","weight":9.0}\n')

    marks = load_marks(path, IDS)
    marks.write(WEIGHTS)

    assert marks.strangers == [{"id": "z", "weight": 2.0, "by": "me"}]
    assert lines(path) == [{"id": "z", "weight": 2.0, "by": "me"}, {"id": "a", "weight": 1.5}]


@pytest.mark.parametrize(
    "line",
    [
        *("no json", "[1]", '{"id": 3}', '{"weight": 1}', '{"id": "a", "note": 1}', "\xff"),
        '{"id": "a", "messages": []}',  # a row of the data itself
    ],
)
def test_a_file_of_something_else_is_refused_by_line_and_kept(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + line.encode("latin-1") + b"\n")
    before = path.read_bytes()

    with pytest.raises(DataError, match=r"m\.jsonl:2: is no mark") as caught:
        load_marks(path, IDS)

    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    assert not load_marks(path, IDS, force=True).notes


def test_a_packed_file_that_is_damaged_is_refused(tmp_path):
    (tmp_path / "m.gz").write_bytes(b"no gzip")

    with pytest.raises(DataError, match="cannot be unpacked"):
        load_marks(tmp_path / "m.gz", IDS)


def test_marks_that_cannot_be_written_stay_unwritten_and_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id":"a"}\n')
    marks = load_marks(path, IDS)
    marks.toggle("b")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(TrajweightError, match="No space left"):
        marks.write(WEIGHTS)

    assert not marks.is_written
    assert path.read_text() == '{"id":"a"}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["m.jsonl"]


def test_the_file_stands_in_the_run_unless_another_is_given_and_is_never_one_of_the_runs(tmp_path):
    run = make_run(tmp_path / "made", [row("a")], {"a": 1.0})

    assert marks_file(None, run) == run.folder / "marks.jsonl"
    assert marks_file(tmp_path / "x", run) == tmp_path / "x"
    for out in (tmp_path, run.folder / ".." / "run" / "weights.parquet"):
        with pytest.raises(ConfigError, match="--out"):
            marks_file(out, run)

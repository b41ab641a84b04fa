"""The options of ``ingest``: what they do to rows, and that a dry run leaves nothing behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.commands import babble, call, write_rows

if TYPE_CHECKING:
    from pathlib import Path

SAME = babble("same")


def odd(name: str) -> dict[str, Any]:
    row = babble(name)
    row["messages"] += [{"role": "user", "content": ""}]
    return row


ROWS = [SAME, odd("odd"), {**SAME, "id": "again", "source": "b"}, babble("last")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl", ROWS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def column(run: Path, name: str) -> list[Any]:
    return pl.read_parquet(run / "trajectories.parquet")[name].to_list()


def counts_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())["counts"]
    return found


def test_problems_and_copies_are_counted_and_told_by_default(path: Path, run: Path) -> None:
    said = call("ingest", path, "--out", run)

    assert said.code == 0
    counts = counts_of(run)
    assert counts["problems"] == {"empty-turn": 1, "trailing-user-turn": 1}
    assert (counts["kept"], counts["repaired"]) == (4, {})
    assert counts["duplicates"]["exact_by_source"] == [{"source": "b", "copies": "good", "n": 1}]
    assert said.out.splitlines()[:4] == [
        "4 rows read = 4 kept + 0 rejected",
        "Problems, rows by code: empty-turn 1, trailing-user-turn 1",
        "Exact copies: 1",
        "  1  b copies good",
    ]
    assert f"{path}:2: empty-turn: turn 3 is an empty user turn" in said.err
    assert "--dedup exact" in said.err


def test_repair_and_dedup_change_the_table_and_say_so(path: Path, run: Path) -> None:
    found = call("ingest", path, "--out", run, "--repair", "--dedup", "near", "--json").object

    counts = found["metrics"]
    assert counts == counts_of(run)
    assert counts["repaired"] == {"empty-turn": 1}
    assert (counts["read"], counts["kept"], counts["rejected"]) == (4, 3, 1)
    assert counts["duplicates"]["searched"] == "every pair of rows was compared"
    assert column(run, "traj_id") == ["same", "odd", "last"]
    assert column(run, "problems") == [None, None, None]
    (rejected,) = map(json.loads, (run / "rejected.jsonl").read_text().splitlines())
    assert rejected["reason"] == f"exact copy of row same at {path}:1"
    assert json.loads(rejected["text"]) == ROWS[2]


def test_a_size_a_limit_a_format_and_a_mapping_reach_the_reader(path: Path, run: Path) -> None:
    options = ("--max-row-bytes", 10, "--limit", 2, "--format", "messages", "--map", "source=id")

    said = call("ingest", path, "--out", run, *options)

    assert said.code == 0
    assert column(run, "source") == ["same", "odd"]
    assert counts_of(run)["problems"]["row-too-large"] == 2


def test_a_format_that_is_none_is_a_usage_error_before_anything_is_written(
    path: Path, run: Path
) -> None:
    for options in (("--format", "nope"), ("--map", "reward")):
        said = call("ingest", path, "--out", run, *options)

        assert said.code == 2
        assert not run.exists()


def test_a_dry_run_tells_the_same_and_leaves_nothing_behind(path: Path, run: Path) -> None:
    options = ("--repair", "--dedup", "exact", "--json")

    dry = call("ingest", path, "--dry-run", "--out", run, *options).object

    assert [each.name for each in path.parent.iterdir()] == [path.name]
    real = call("ingest", path, "--out", run, *options).object
    assert dry["metrics"] == real["metrics"]
    assert dry["notes"] == real["notes"]
    assert dry["outputs"] == {}
    assert "Nothing was written" in call("ingest", path, "--dry-run").out


def test_a_dry_run_of_rows_that_cannot_be_used_names_the_first_reason(path: Path) -> None:
    path.write_text('{"messages": 3}\n')

    said = call("ingest", path, "--dry-run")

    assert said.code == 3
    assert f"{path}:1: messages is a number" in said.err
    assert "rejected.jsonl" not in said.err


def test_the_files_of_a_run_are_given_back(path: Path, run: Path, tmp_path: Path) -> None:
    call("ingest", path, "--out", run, "--repair", "--dedup", "exact")

    said = call("ingest", run, "--to", "original", "--out", tmp_path / "back", "--json")

    back = tmp_path / "back" / "data.jsonl"
    assert [json.loads(line) for line in back.read_text().splitlines()] == ROWS
    found = said.object
    assert found["outputs"] == {str(path): str(back)}
    assert found["metrics"] == {"files": 1, "records": 4, "rejected": 1}
    assert found["files"][0]["is_same_kind"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--to", "original"), "needs one run as PATHS"),
        (("RUN", "RUN", "--to", "original", "--out", "x"), "needs one run as PATHS, and got 2"),
        (("RUN", "--to", "original"), "--out"),
        (("RUN", "--to", "original", "--out", "x", "--repair"), "--repair does nothing"),
        (("RUN", "--to", "jsonl", "--out", "x"), "jsonl"),
    ],
)
def test_giving_back_needs_a_run_a_folder_and_nothing_else(
    args: tuple[str, ...], told: str
) -> None:
    said = call("ingest", *args)

    assert said.code == 2
    assert told in said.err


def test_giving_back_from_what_is_no_run_is_an_input_error(path: Path, tmp_path: Path) -> None:
    said = call("ingest", path.parent, "--to", "original", "--out", tmp_path / "back")

    assert said.code == 3
    assert "not a run" in said.err

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands import call, write_rows
from tests.runs import make_run, row

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row("a", text="one"), row("b", text="two")]
    return make_run(tmp_path / "made", rows, {"a": 1.0, "b": 3.0})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "d.jsonl", [row("b", text="two"), row("x", text="new")])


def test_what_was_found_and_what_was_not_is_said(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    said = call("join", data, "--weights", run.folder, "--out", out)

    assert said.code == 0
    assert said.out.splitlines() == [
        f"{out}: 1 of 2 rows",
        "Found: 1 by id.",
        "Without a weight: 1 not in the run.",
        "Rows of the run that no row of the data is: 1.",
    ]
    assert f"not in the run: {data}:2 (x)" in said.err
    assert "in no data row: a" in said.err
    assert json.loads(out.read_text())["weight"] == 1.5


def test_json_says_the_same_in_numbers(run: Run, data: Path, tmp_path: Path) -> None:
    out, listing = tmp_path / "out.jsonl", tmp_path / "list.jsonl"
    args = ("--out", out, "--unmatched", "keep", "--list", listing, "--json")

    found = call("join", data, "--weights", run.folder, *args).object

    assert found["outputs"] == {"joined": str(out), "list": str(listing)}
    assert found["metrics"] == {
        "n_read": 2,
        "n_written": 2,
        "n_matched": {"id": 1},
        "n_without_weight": {"not in the run": 1},
        "n_rejected": 0,
        "n_not_found": 1,
        "mean_weight": 1.5,
    }
    assert len(listing.read_text().splitlines()) == 2


def test_data_of_another_run_ends_with_the_code_of_bad_data(run: Run, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", [row("x", text="new")])

    said = call("join", data, "--weights", run.folder, "--out", tmp_path / "out.jsonl")

    assert said.code == 3
    assert "none of the 1 rows is in the run" in said.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "args", [("--by", "name"), ("--unmatched", "guess"), ("--list", "SAME"), ("--format", "none")]
)
def test_what_cannot_be_meant_is_a_usage_error(
    run: Run, data: Path, tmp_path: Path, args: tuple[str, ...]
) -> None:
    out = tmp_path / "out.jsonl"
    named = [str(out) if arg == "SAME" else arg for arg in args]

    said = call("join", data, "--weights", run.folder, "--out", out, *named)

    assert said.code == 2
    assert not out.exists()


def test_a_file_is_written_over_only_with_force(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    command = ("join", data, "--weights", run.folder, "--out", out)

    assert call(*command).code == 2
    assert out.read_text() == "mine"
    assert call(*command, "--force").code == 0

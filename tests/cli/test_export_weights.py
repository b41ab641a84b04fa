from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import polars as pl
import pytest

from tests.commands import call
from tests.runs import make_run, row
from trajweight import dial
from trajweight.cli._options import DialName, ExportMode
from trajweight.cli.export_weights import ExportWeights
from trajweight.trainers import MODES, TARGETS

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from trajweight.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(f"s{i}", text=f"reply {i}", own={"a": i}) for i in range(4)]
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(2)]
    weights = {f"s{i}": float(i + 1) for i in range(4)}
    return make_run(tmp_path / "made", rows, weights, splits={"r1": "validation"})


def exported(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {one["id"]: one for one in rows}


def test_rows_come_back_with_their_weight(run: Run, tmp_path: Path) -> None:
    said = call("export-weights", run.folder, "--out", tmp_path / "train.jsonl")

    found = exported(tmp_path / "train.jsonl")
    assert said.code == 0
    assert set(found) == {"s0", "s1", "s2", "s3", "r0"}
    # of mean one over the five that go out: the real row counts 1 beside four of mean 1
    assert found["s3"] == {**row("s3", text="reply 3", own={"a": 3}), "weight": pytest.approx(1.6)}


def test_what_was_written_and_left_out_is_said(run: Run, tmp_path: Path) -> None:
    said = call("export-weights", run.folder, "--out", tmp_path / "t.jsonl", "--top-k", 1)

    assert said.out.splitlines() == [
        f"{tmp_path / 't.jsonl'}: 2 rows for jsonl, mode native",
        "Weights of mean one, ESS/n 0.95, 40% of the synthetic mass.",
        "Left out: 1 in split validation, 3 outside the top 1.",
    ]
    assert "sequence-mean" in said.err


def test_json_says_the_same_in_numbers(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"

    found = call("export-weights", run.folder, "--out", out, "--top-k", 1, "--json").object

    assert found["outputs"] == {"export": str(out)}
    assert found["metrics"]["n_rows"] == 2
    assert found["metrics"]["mass_kept"] == pytest.approx(0.4)
    assert found["metrics"]["n_left_out"] == {"in split validation": 1, "outside the top 1": 3}


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (("--min-weight", 1.0), {"s2", "s3", "r0"}),
        (("--top-k", 2), {"s2", "s3", "r0"}),
        (("--top-fraction", 0.25), {"s3", "r0"}),
        (("--top-p", 0.6), {"s2", "s3", "r0"}),
        (("--quota", "good=1"), {"s3", "r0"}),
        (("--origin", "real"), {"r0"}),
        (("--split", "validation"), {"r1"}),
        (("--split", "train", "--split", "validation", "--origin", "real"), {"r0", "r1"}),
    ],
)
def test_filters_choose_the_rows(
    run: Run, tmp_path: Path, args: tuple[object, ...], names: set[str]
) -> None:
    call("export-weights", run.folder, "--out", tmp_path / "t.jsonl", *args)

    assert set(exported(tmp_path / "t.jsonl")) == names


@pytest.mark.parametrize(
    "args",
    [
        ("--split", "nonsense"),
        ("--origin", "nonsense"),
        ("--to", "csv"),
        ("--to", "trl", "--split", "validation"),
        ("--mode", "filter"),
        ("--mode", "adapter"),
        ("--target-ess", 1.5),
        ("--quota", "good"),
        ("--epochs", 0),
        ("--epochs", 3),
        ("--mode", "buckets", "--epochs", 3),
        ("--dial", "temper"),
        ("--public",),
        ("--licence", "mit"),
        ("--top-k", 0),
        ("--top-k", 1, "--top-fraction", 0.5),
        ("--min-weight", 99, "--origin", "synthetic"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    run: Run, tmp_path: Path, args: tuple[object, ...]
) -> None:
    said = call("export-weights", run.folder, "--out", tmp_path / "t.jsonl", *args)

    assert said.code == 2
    assert said.err.startswith("error: ")
    assert not (tmp_path / "t.jsonl").exists()


def test_the_target_is_what_is_asked_for(run: Run, tmp_path: Path) -> None:
    call("export-weights", run.folder, "--out", tmp_path / "a", "--to", "parquet")

    assert pl.read_parquet(tmp_path / "a").height == 5


def test_the_options_name_what_the_library_knows() -> None:
    help_of_to = ExportWeights.__annotations__["to"].__metadata__[0].help

    assert get_args(ExportMode) == MODES
    assert get_args(DialName) == get_args(dial.How)
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", help_of_to) for name in TARGETS)


def test_a_file_is_written_over_only_with_force(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    out.write_text("mine")

    refused = call("export-weights", run.folder, "--out", out)
    kept = out.read_text()
    forced = call("export-weights", run.folder, "--out", out, "--force")

    assert (refused.code, kept) == (2, "mine")
    assert forced.code == 0
    assert len(exported(out)) == 5


def test_a_missing_run_or_out_says_so(run: Run, tmp_path: Path) -> None:
    assert call("export-weights", tmp_path / "none", "--out", tmp_path / "t.jsonl").code == 3
    assert call("export-weights", run.folder).code == 2
    assert call("export-weights").code == 2


def test_rows_may_be_piped_and_nothing_else_is_in_the_pipe(run: Run) -> None:
    args = ["export-weights", str(run.folder), "--out", "/dev/stdout", "--to", "jsonl"]

    done = subprocess.run(
        [sys.executable, "-m", "trajweight.cli", *args], capture_output=True, check=True
    )

    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 5
    assert b"5 rows for jsonl" in done.stderr

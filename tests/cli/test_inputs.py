"""What may be named as input on the command line: files, folders, patterns, standard input."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.commands import QUICK, Said, babble, call, write_rows
from trajweight.cli.main import app
from trajweight.manifest import input_facts

if TYPE_CHECKING:
    from pathlib import Path


def piped(data: bytes, *args: object) -> Said:
    """Run a command line with something at its standard input."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=data)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def names(run: Path) -> list[str]:
    return pl.read_parquet(run / "trajectories.parquet")["traj_id"].to_list()


def inputs(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "manifest.json").read_text())["inputs"]
    return found


def lines(*ids: str) -> bytes:
    return b"".join(json.dumps(babble(name)).encode() + b"\n" for name in ids)


def test_folders_patterns_and_standard_input_are_read_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "more").mkdir()
    (tmp_path / "data" / "sub" / "z.jsonl.gz").write_bytes(gzip.compress(lines("z")))
    (tmp_path / "data" / "b.json").write_text(json.dumps([babble("b1"), babble("b2")]))
    (tmp_path / "data" / "README.md").touch()
    for name in ("d", "c"):
        write_rows(tmp_path / "more" / f"{name}.jsonl", [babble(name)])
    run = tmp_path / "run"

    said = piped(
        lines("s1", "s2"),
        "ingest",
        tmp_path / "data",
        tmp_path / "more" / "*.jsonl",
        "-",
        "--out",
        run,
    )

    assert said.code == 0, said.err
    assert names(run) == ["b1", "b2", "z", "c", "d", "s1", "s2"]
    assert "README.md" in said.err
    files = [
        tmp_path / name
        for name in ("data/b.json", "data/sub/z.jsonl.gz", "more/c.jsonl", "more/d.jsonl")
    ]
    digest = hashlib.sha256(lines("s1", "s2")).hexdigest()
    assert inputs(run) == [
        *(input_facts(path) for path in files),
        {"path": "-", "bytes": len(lines("s1", "s2")), "sha256": digest},
    ]


def test_a_row_of_a_file_in_a_folder_is_told_by_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = write_rows(tmp_path / "data" / "a.jsonl", [babble("a"), {"messages": 3}])

    said = call("ingest", tmp_path / "data", "--out", tmp_path / "run")

    assert f"{path}:2: " in said.err


def test_an_older_run_in_the_folder_is_no_input(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [babble("a")])

    call("ingest", tmp_path, "--out", tmp_path / "run")

    said = call("ingest", tmp_path, "--out", tmp_path / "run", "--force")

    assert said.code == 0
    assert names(tmp_path / "run") == ["a"]
    assert "1 skipped, runs of trajweight: run" in said.err


def test_the_run_folder_may_not_be_the_folder_that_is_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [babble("a")])

    said = call("ingest", tmp_path, "--out", tmp_path)

    assert said.code == 2
    assert "lies in the run folder" in said.err


def test_standard_input_of_nothing_is_nothing_to_read(tmp_path: Path) -> None:
    said = piped(b"", "ingest", "-", "--out", tmp_path / "run")

    assert said.code == 3
    assert "nothing to read: no line that is not blank in -" in said.err


@pytest.mark.slow
def test_a_folder_of_validation_files_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    for i in range(24):
        write_rows(tmp_path / "held" / f"{i:02}.jsonl", [babble(f"r{i}")])
    others = [
        *(babble(f"s{i}") for i in range(8)),
        *(babble(f"t{i}", source="real") for i in range(6)),
    ]
    data = write_rows(tmp_path / "data.jsonl", others)
    (tmp_path / "quick.toml").write_text(QUICK)
    run = tmp_path / "run"

    said = call(
        *("score", data, "--val", tmp_path / "held", "--real", "real"),
        *("--out", run, "--config", tmp_path / "quick.toml"),
    )

    assert said.code == 0, said.err
    weights = pl.read_parquet(run / "weights.parquet").join(
        pl.read_parquet(run / "trajectories.parquet").select("traj_id", "origin_path"), on="traj_id"
    )
    of_held = pl.col("origin_path").str.contains("/held/")
    assert set(weights.filter(of_held)["split"]) <= {"validation", "dev", "test"}
    assert set(weights.filter(~of_held)["split"]) == {"train"}
    assert [each["sha256"] is None for each in inputs(run)] == [False] * 25


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run of two files in a folder that did not finish."""
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "a.jsonl", [babble("a")])
    write_rows(tmp_path / "data" / "b.jsonl", [babble("b")])
    call("score", tmp_path / "data", "--out", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(
        json.dumps({**manifest, "status": "interrupted"})
    )
    return tmp_path / "run"


def test_a_run_goes_on_with_the_files_of_a_folder(begun: Path) -> None:
    said = call("score", "--resume", begun)

    assert said.code == 0, said.err
    assert names(begun) == ["a", "b"]


def test_a_file_that_came_into_the_folder_meanwhile_is_refused(begun: Path, tmp_path: Path) -> None:
    new = write_rows(tmp_path / "data" / "c.jsonl", [babble("c")])

    said = call("score", "--resume", begun)

    assert said.code == 3
    assert f"{new}: was not there when the run began" in said.err
    assert names(begun) == ["a", "b"]


def test_a_run_of_standard_input_cannot_be_gone_on_with(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert piped(lines("a"), "score", "-", "--out", run).code == 0
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))

    said = piped(lines("a"), "score", "--resume", run)

    assert said.code == 3
    assert "was read from standard input, which does not come again" in said.err
    assert names(run) == ["a"]


def test_a_run_stopped_while_it_read_is_read_again(begun: Path) -> None:
    manifest = json.loads((begun / "manifest.json").read_text())
    for each in manifest["inputs"]:
        each["sha256"] = None  # as it stands before a file was read to its end
    (begun / "manifest.json").write_text(json.dumps(manifest))

    assert call("score", "--resume", begun).code == 0

    assert all(each["sha256"] for each in inputs(begun))

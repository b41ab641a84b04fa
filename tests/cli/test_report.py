from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands import call
from tests.runs import make_run, row
from trajweight.analysis.report import build_report

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    names = [f"s{i}" for i in range(4)]
    rows = [row(name, text=f"reply {name}") for name in names]
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(2)]
    weights = dict(zip(names, (1.0, 2.0, 3.0, 4.0), strict=True))
    run = make_run(tmp_path / "made", rows, weights, splits={"r1": "validation"})
    learning = {"uniform_dev_loss": 2.0, "weighted_dev_loss": 1.5, "selected": "head"}
    learning |= {"dev_gain": 0.5, "dev_gain_se": 0.1}
    run.save_report(build_report(run, learning))
    return run


def test_the_report_is_all_of_stdout(run: Run) -> None:
    said = call("report", run.folder)

    assert said.code == 0
    assert said.out.startswith("Weighting helps: dev loss is 1.5000")
    assert "Highest weights" in said.out
    assert not said.err


def test_quiet_is_the_same_report(run: Run) -> None:
    assert call("report", run.folder, "--quiet").out == call("report", run.folder).out


def test_json_holds_the_facts_the_numbers_and_the_warnings(run: Run) -> None:
    found = call("report", run.folder, "--json").object

    assert found["report"] == run.report()
    assert found["metrics"]["weighted_dev_loss"] == 1.5
    assert found["metrics"]["n_synthetic"] == 4
    assert found["warnings"] == run.report()["warnings"]
    assert found["inputs"] == [str(run.folder)]


def test_out_writes_the_same_text_to_a_file(run: Run, tmp_path: Path) -> None:
    said = call("report", run.folder, "--out", tmp_path / "new" / "report.txt")

    assert said.out == f"{tmp_path / 'new' / 'report.txt'}\n"
    text = (tmp_path / "new" / "report.txt").read_text(encoding="utf-8")
    assert text == call("report", run.folder).out


def test_out_with_json_writes_the_object_and_prints_it(run: Run, tmp_path: Path) -> None:
    said = call("report", run.folder, "--out", tmp_path / "r.json", "--json")

    assert json.loads((tmp_path / "r.json").read_text()) == said.object
    assert said.object["outputs"] == {"report": str(tmp_path / "r.json")}


def test_a_file_is_written_over_only_with_force(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "r.txt"
    out.write_text("mine")

    refused = call("report", run.folder, "--out", out)
    kept = out.read_text()
    forced = call("report", run.folder, "--out", out, "--force")

    assert (refused.code, kept) == (2, "mine")
    assert "--force" in refused.err
    assert forced.code == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize("name", ["report.json", "."])
def test_the_run_itself_is_never_written_over(run: Run, name: str) -> None:
    before = run.report()

    said = call("report", run.folder, "--out", run.folder / name, "--force")

    assert said.code == 2
    assert run.report() == before


def test_what_is_no_run_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        said = call("report", path)

        assert said.code == 3
        assert str(path) in said.err
        assert not said.out


def test_a_run_that_did_not_finish_says_so(run: Run) -> None:
    (run.folder / "report.json").unlink()

    said = call("report", run.folder)

    assert said.code == 3
    assert "report.json" in said.err


def test_the_seed_is_taken_and_changes_nothing(run: Run) -> None:
    assert call("report", run.folder, "--seed", 3).out == call("report", run.folder).out


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.md", "# trajweight report"),
        ("r.MD", "# trajweight report"),
        ("r.html", "<!doctype html>"),
        ("r.json", "{"),
        ("r.txt", "Weighting helps"),
        ("r", "Weighting helps"),
    ],
)
def test_the_ending_decides_what_stands_in_the_file(
    run: Run, tmp_path: Path, name: str, begins: str
) -> None:
    said = call("report", run.folder, "--out", tmp_path / name)

    assert said.out == f"{tmp_path / name}\n"
    assert (tmp_path / name).read_text(encoding="utf-8").lower().startswith(begins.lower())


def test_a_format_that_is_asked_for_counts_more_than_the_ending(run: Run, tmp_path: Path) -> None:
    call("report", run.folder, "--out", tmp_path / "r.txt", "--format", "markdown")

    assert (tmp_path / "r.txt").read_text().startswith("# trajweight report")


def test_every_format_can_be_had_on_stdout(run: Run) -> None:
    plain = call("report", run.folder)

    assert call("report", run.folder, "--format", "text").out == plain.out
    asked = call("report", run.folder, "--format", "json")
    assert asked.object == call("report", run.folder, "--json").object
    assert call("report", run.folder, "--format", "markdown").out.startswith("# trajweight report")
    assert "<html" in call("report", run.folder, "--format", "html").out


def test_json_and_another_format_do_not_share_stdout(run: Run, tmp_path: Path) -> None:
    assert call("report", run.folder, "--json", "--format", "markdown").code == 2

    said = call("report", run.folder, "--json", "--format", "markdown", "--out", tmp_path / "x")
    assert said.object["outputs"] == {"report": str(tmp_path / "x")}
    assert (tmp_path / "x").read_text().startswith("# trajweight report")


def test_without_a_run_there_is_only_the_schema() -> None:
    said = call("report")

    assert said.code == 2
    assert "--schema" in said.err

from __future__ import annotations

import pytest

from tests.commands import call
from tests.runs import make_run, row
from trajweight.analysis.figures import figures
from trajweight.analysis.report import build_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [row(f"s{at}", source=f"source {at % 2}") for at in range(4)]
    run = make_run(tmp_path_factory.mktemp("run"), rows, {f"s{at}": 1.0 + at for at in range(4)})
    run.save_report(build_report(run, {}))
    return run


def test_plots_are_written_beside_the_report(run, tmp_path) -> None:
    said = call("report", run.folder, "--plots", tmp_path / "new" / "plots")

    names = {path.name for path in (tmp_path / "new" / "plots").iterdir()}
    kinds = {f"{figure.name}.{kind}" for figure in figures(run.report()) for kind in ("png", "svg")}
    assert said.code == 0
    assert said.out == call("report", run.folder).out
    assert names == kinds
    assert kinds


def test_a_folder_that_holds_something_is_taken_only_with_force(run, tmp_path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")

    refused = call("report", run.folder, "--plots", tmp_path)
    assert refused.code == 2
    assert "is not empty" in refused.err
    assert list(tmp_path.iterdir()) == [kept]

    assert call("report", run.folder, "--plots", tmp_path, "--force").code == 0
    assert kept.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) > 1


def test_a_file_is_no_place_for_plots(run, tmp_path) -> None:
    (tmp_path / "file").write_text("mine")

    said = call("report", run.folder, "--plots", tmp_path / "file")

    assert said.code == 2
    assert "is a file" in said.err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_page_goes_to_a_file_by_its_ending(run, tmp_path) -> None:
    said = call("report", run.folder, "--out", tmp_path / "page.html")

    text = (tmp_path / "page.html").read_text("ascii")
    assert said.code == 0
    assert text.startswith("<!DOCTYPE html>")
    assert text == call("report", run.folder, "--format", "html").out

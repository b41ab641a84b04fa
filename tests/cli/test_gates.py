from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.analysis.test_schema import real_rows_alone
from tests.commands import QUICK, babble, call, write_rows
from tests.runs import make_run, row
from trajweight.analysis.report import build_report

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


def finished(folder: Path, weights: list[float]) -> Run:
    names = [f"s{i}" for i in range(len(weights))]
    run = make_run(folder, [row(name) for name in names], dict(zip(names, weights, strict=True)))
    run.save_report(build_report(run, {"selected": "head"}))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Shares 1/2, 1/6, 1/6, 1/6: ESS is 1 / (1/4 + 3/36) = 3 of 4 rows."""
    return finished(tmp_path, [3.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--fail-under-ess", 0.74), 0),
        (("--fail-under-ess", 0.76), 4),
        (("--max-top1-mass", 0.51), 0),
        (("--max-top1-mass", 0.49), 4),
        (("--fail-under-ess", 0.74, "--max-top1-mass", 0.49), 4),
        (("--fail-under-ess", 0.74, "--max-top1-mass", 0.51), 0),
    ],
)
def test_a_gate_decides_the_code_and_never_the_report(run: Run, flags, code: int) -> None:
    said = call("report", run.folder, *flags)

    assert said.code == code
    assert said.out == call("report", run.folder).out
    assert bool(said.err) == (code == 4)


def test_the_message_tells_every_value_found(run: Run) -> None:
    said = call("report", run.folder, "--fail-under-ess", 0.9, "--max-top1-mass", 0.2)

    assert "ESS/n is 0.75, below --fail-under-ess 0.9." in said.err
    assert "The heaviest row holds 0.5 of the mass, above --max-top1-mass 0.2." in said.err


def test_json_stays_one_object_with_the_report_and_the_gate(run: Run) -> None:
    said = call("report", run.folder, "--json", "--fail-under-ess", 0.9)

    assert said.code == said.object["exit_code"] == 4
    assert (said.object["status"], said.object["code"]) == ("error", "gate")
    assert said.object["report"] == run.report()
    assert "0.75" in said.object["message"]
    assert not said.err


def test_a_file_is_written_before_the_gate_falls(run: Run, tmp_path: Path) -> None:
    said = call("report", run.folder, "--out", tmp_path / "r.md", "--max-top1-mass", 0.1)

    assert said.code == 4
    assert (tmp_path / "r.md").read_text().startswith("# trajweight report")


def test_no_rows_to_train_on_pass_no_gate(tmp_path: Path) -> None:
    run = real_rows_alone(tmp_path)
    run.save_report(build_report(run, {}))

    assert call("report", run.folder, "--fail-under-ess", 0.1).code == 4
    assert call("report", run.folder, "--max-top1-mass", 1).code == 4
    assert call("report", run.folder).code == 0


@pytest.mark.parametrize("value", ["-0.1", "1.5", "much"])
def test_a_gate_is_a_share(run: Run, value: str) -> None:
    assert call("report", run.folder, f"--fail-under-ess={value}").code == 2


@pytest.mark.slow
def test_score_has_the_same_gates_and_leaves_a_finished_run(tmp_path: Path) -> None:
    rows = [babble(f"s{i}") for i in range(8)] + [babble(f"r{i}", source="real") for i in range(24)]
    data, config = write_rows(tmp_path / "data.jsonl", rows), tmp_path / "quick.toml"
    config.write_text(QUICK)

    said = call(
        *("score", data, "--config", config, "--out", tmp_path / "run", "--quiet"),
        *("--max-top1-mass", 0.01),
    )

    assert said.code == 4
    assert "above --max-top1-mass 0.01" in said.err
    assert said.out.splitlines()[-1] == f"Run: {tmp_path / 'run'}"
    assert call("report", tmp_path / "run").code == 0

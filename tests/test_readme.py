"""What the README shows works, and what it says was measured."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer

from trajweight.cli.main import app
from trajweight.problems import CODES
from trajweight.repair import REPAIRS
from trajweight.scorers import SCORERS, scorer
from trajweight.trainers import target_named, targets

if TYPE_CHECKING:
    from typer.core import TyperGroup

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_measured_part_is_what_the_benchmark_wrote() -> None:
    sample = benchmark("sample")
    results = json.loads(sample.RESULTS.read_text())

    shown = README.split(sample.START)[1].split(sample.END)[0].strip()

    assert shown == sample.told(results).strip()


def test_the_verdicts_are_what_the_trainers_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    trainers = benchmark("trainers")
    cells = json.loads((ROOT / "benchmarks" / "trainers.json").read_text())["cells"]

    shown = README.split(trainers.START)[1].split(trainers.END)[0].strip()

    assert shown == trainers.told(cells).strip()
    expected = {(trap.target, trap.mode, trap.told): trap.expected for trap in trainers.TRAPS}
    for cell in cells:
        trap = (cell["target"], cell["mode"], cell["trap"])
        assert cell["verdict"] == expected.get(trap, "PASS"), trap
    wanted = {
        (name, mode, "")
        for name in trainers.ENVIRONMENTS
        for mode in target_named(name).modes
        if mode != "buckets"
    }
    asked = {(cell["target"], cell["mode"], cell["trap"]) for cell in cells}
    assert asked == wanted | set(expected)
    trained_on = {each.name for each in targets() if not each.is_plain}
    assert trained_on == set(trainers.ENVIRONMENTS) | set(trainers.NOT_ASKED)


def test_the_laws_that_need_a_trainer_held_when_they_were_last_run() -> None:
    laws = json.loads((ROOT / "benchmarks" / "trainers.json").read_text())["laws"]
    source = (ROOT / "benchmarks" / "trainer_laws" / "test_trl.py").read_text("utf-8")

    assert laws["failed"] == 0
    assert laws["passed"] >= source.count("\ndef test_") > 0


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "'weight'" in done.stdout


def test_the_table_tells_every_command_and_no_other() -> None:
    told = re.findall(r"^\| `([a-z][a-z-]+) (?:[A-Z]|--)", README, flags=re.MULTILINE)

    assert sorted(set(told)) == sorted(cast("TyperGroup", typer.main.get_command(app)).commands)


def test_the_table_of_targets_tells_their_modes() -> None:
    rows = re.findall(
        r"^\| (`[a-z0-9-]+`) \| ((?:`[a-z]+`(?:, )?)+) \|$", README, flags=re.MULTILINE
    )
    told = {name.strip("`"): tuple(re.findall(r"`([a-z]+)`", modes)) for name, modes in rows}

    assert told == {each.name: each.modes for each in targets() if not each.is_plain}


def test_the_table_of_methods_tells_every_scorer_under_what_it_needs() -> None:
    part = README.split("## Other methods")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| ([a-z' ]+) \| (`.+`) \|$", part, flags=re.MULTILINE))
    told = {
        need: re.findall(r"`([^`]+)`", rows[row])
        for need, row in (
            ("rows", "rows alone"),
            ("model", "the model's forward passes"),
            ("training", "training"),
        )
    }

    assert sorted(name for names in told.values() for name in names) == sorted(SCORERS)
    assert all(scorer(name).needs == need for need, names in told.items() for name in names)


def test_every_code_of_a_problem_is_told_with_what_repair_does() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|$", README, flags=re.MULTILINE)

    assert [code for code, _ in rows] == list(CODES)
    assert {code for code, repair in rows if repair != "-"} == set(REPAIRS)

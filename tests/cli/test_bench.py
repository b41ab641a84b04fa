"""``trajweight bench`` from the command line; what a grid does is tested with the library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.commands import call

if TYPE_CHECKING:
    from pathlib import Path

GRID = """
version = 1
model = "tiny"
environments = ["textarena-guess"]
noises = [0.0]
usual_noise = 0.0
validations = [4]
usual_validation = 4
seeds = 1
methods = ["uniform"]
n_synthetic = 6
n_real = 2
n_dev = 2
n_test = 2
n_games = 1
[learning.model]
max_tokens = 1024
[learning.retrain]
epochs = 0.5
"""


def test_a_grid_is_planned_run_and_made_a_page_of(tmp_path: Path) -> None:
    grid, out = tmp_path / "mine.toml", tmp_path / "out"
    grid.write_text(GRID)
    options = ("--grid", grid, "--out", out, "--json")
    planned = json.loads(call("bench", *options, "--plan").out)
    ran = json.loads(call("bench", *options).out)
    again = json.loads(call("bench", *options, "--page").out)

    assert planned["metrics"] == {"cells": 1, "finished": 0}
    assert ran["metrics"] == {"cells": 1, "finished": 1}
    assert again["metrics"] == ran["metrics"]
    assert (out / "RESULTS.md").read_text().startswith("# Results")
    assert len((out / "cells.jsonl").read_text().splitlines()) == 1


def test_a_plan_needs_no_model_and_writes_nothing_but_its_folder(tmp_path: Path) -> None:
    said = call("bench", "--out", tmp_path / "out", "--plan")

    assert said.code == 0, said.err
    assert "0 of" in said.out
    assert not (tmp_path / "out" / "RESULTS.md").exists()


def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    for options, named in (
        (("--grid", "enormous"), "small"),
        (("--only", "chess"), "babyai-goto"),
        (("--grid", str(tmp_path / "none.toml")), "none"),
    ):
        said = call("bench", *options, "--out", tmp_path / "out", "--plan")
        assert said.code == 2
        assert named in said.err

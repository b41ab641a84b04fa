"""Grids, and the file of finished cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from trajweight.bench.controls import CONTROLS, TRANSFERRED
from trajweight.bench.grid import Grid, built_in
from trajweight.bench.ledger import Ledger
from trajweight.bench.results_cells import Setting, read_cells
from trajweight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

GRID = Grid(
    name="some",
    environments=("textarena-guess", "babyai-goto"),
    noises=(0.0, 0.4),
    usual_noise=0.4,
    validations=(20, 50),
    usual_validation=50,
    seeds=2,
    methods=("learned", "uniform", *CONTROLS),
    larger="smollm2-135m-instruct",
    ablations={"more steps": {"outer.max_steps": 100}},
)


def test_a_grid_is_a_star_around_the_usual_setting() -> None:
    assert GRID.settings_of_pools() == [
        Setting(environment, noise, n)
        for environment in ("textarena-guess", "babyai-goto")
        for noise, n in ((0.0, 50), (0.4, 50), (0.4, 20))
    ]


def test_a_grid_that_is_cut_short_has_every_setting_before_the_next_seed() -> None:
    seeds = [cell.seed for cell in GRID.cells()]

    assert seeds == sorted(seeds)
    assert {cell.seed for cell in GRID.cells()} == {0, 1}


def test_every_cell_stands_once_and_ablations_stand_in_the_usual_setting_only() -> None:
    cells = list(GRID.cells())
    changed = [cell for cell in cells if cell.ablation != "{}"]

    n_cells = 2 * (6 * len(GRID.methods) + 2) - 2 * 4 * len(TRANSFERRED)
    assert len(set(cells)) == len(cells) == n_cells
    assert {cell.setting[1:] for cell in changed} == {(0.4, 50)}
    assert {cell.ablation for cell in changed} == {'{"outer.max_steps":100}'}


def test_weights_are_transferred_in_the_usual_setting_only() -> None:
    moved = {cell.setting[1:] for cell in GRID.cells() if cell.method in TRANSFERRED}

    assert moved == {(0.4, 50)}


def test_methods_and_ablations_may_be_left_out_away_from_the_usual_case() -> None:
    some = replace(GRID, methods_elsewhere=("uniform",), seeds_of_ablations=1)
    elsewhere = {cell.method for cell in some.cells() if cell.setting[1:] != (0.4, 50)}
    usual = {cell.method for cell in some.cells() if cell.setting[1:] == (0.4, 50)}

    assert elsewhere == {"uniform"}
    assert usual == set(GRID.methods)
    assert {cell.seed for cell in some.cells() if cell.ablation != "{}"} == {0}
    # what is run is all that changes
    assert some.setup() == GRID.setup()


def test_what_an_ablation_changes_is_the_only_thing_that_changes() -> None:
    plain, changed = GRID.settings({}), GRID.settings({"outer.max_steps": 100})

    assert changed.outer.max_steps == 100
    assert replace(changed, outer=plain.outer) == plain


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"environments": ("chess",)}, "chess"),
        ({"methods": ("dsirr",)}, "dsirr"),
        ({"decodings": ("beam",)}, "beam"),
        ({"seeds": 0}, "seeds is 0"),
        ({"methods": ("permuted",)}, "permuted"),
        ({"ablations": {"x": {"outer.speed": 1}}}, "speed"),
        ({"ablations": {"x": {"outer.max_steps": -1}}}, "max_steps"),
        ({"ablations": {"x": {"retrain.epochs": 9}}}, "retrain.epochs, which all cells share"),
        ({"ablations": {"x": {"row_loss": "most"}}}, "row_loss is 'most'"),
        ({"larger": ""}, "learned-transferred trains a larger model, and there is none"),
        ({"larger_recipe": {"colour": 2}}, "colour"),
        ({"methods_elsewhere": ("dsir",)}, "dsir"),
        ({"methods_elsewhere": ("oracle-transferred",)}, "oracle-transferred"),
        ({"n_real": 0}, "real-only trains on real rows, and n_real is 0"),
        ({"ablations": {"x": {"model.rank": 4}}}, "model.rank, which all cells share"),
        ({"recipe": {"colour": 2}}, "colour"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(wrong: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(GRID, **wrong)


@pytest.mark.parametrize("name", built_in())
def test_our_grids_can_be_read(name: str) -> None:
    grid = Grid.load(name)

    assert grid.name == name
    assert {"learned", "uniform", "permuted"} <= set(grid.methods)
    assert grid.usual_noise in grid.noises
    assert 0.0 in grid.noises


def test_a_grid_of_another_version_or_with_a_strange_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text, named in (("version = 9", "version is 9"), ("version = 1\ncolour = 2", "colour")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=named):
            Grid.load("mine", path)
    with pytest.raises(ConfigError, match="no grid 'none'"):
        Grid.load("none")


def test_one_environment_is_a_part_of_the_same_grid() -> None:
    some = list(GRID.cells(only=["babyai-goto"]))

    assert some == [each for each in GRID.cells() if each.setting.environment == "babyai-goto"]


def test_cells_of_another_setup_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    Ledger(path, GRID.setup).add(next(GRID.cells()), {})
    longer = replace(GRID, seeds=9, noises=(0.0, 0.4, 0.8), ablations={})

    assert Ledger(path, longer.setup).done
    for other in ({"n_synthetic": 7}, {"learning": {"outer": {"max_steps": 7}}}, {"model": "tiny"}):
        with pytest.raises(ConfigError, match="another setup"):
            Ledger(path, replace(GRID, **other).setup)


def test_cells_of_another_larger_model_are_others_and_the_rest_are_not(tmp_path: Path) -> None:
    plain, moved = (
        next(cell for cell in GRID.cells() if (cell.method in TRANSFERRED) == is_moved)
        for is_moved in (False, True)
    )
    other = replace(GRID, larger="small", larger_recipe={"layers": 9})
    path = tmp_path / "cells.jsonl"
    Ledger(path, GRID.setup).add(plain, {})

    assert Ledger(path, other.setup).done == {plain}
    Ledger(path, GRID.setup).add(moved, {})
    with pytest.raises(ConfigError, match=f"another setup .{moved.method}: "):
        Ledger(path, other.setup)


def test_the_larger_model_is_the_last_to_come(tmp_path: Path) -> None:
    cells = [cell for cell in GRID.cells() if (cell.seed, cell.setting[1:]) == (0, (0.4, 50))]
    mine = [cell for cell in cells if cell.setting.environment == "babyai-goto"]
    moved = [cell.method in TRANSFERRED for cell in mine]

    assert moved == sorted(moved)
    assert mine[-len(TRANSFERRED) - 1].ablation != "{}"


def test_finished_cells_are_known_again(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    first, second, *_ = GRID.cells()
    ledger = Ledger(path, GRID.setup)
    ledger.add(first, {"nll": {"test": 0.5}})
    ledger.add(second, {"nll": {"test": 0.4}})

    assert Ledger(path, GRID.setup).done == {first, second}
    assert [cell.number("nll.test") for cell in read_cells(path)] == [0.5, 0.4]


def test_half_a_line_costs_its_own_cell_only(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    first, second, *_ = GRID.cells()
    Ledger(path, GRID.setup).add(first, {})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"version":1,"mod')
    ledger = Ledger(path, GRID.setup)

    assert ledger.done == {first}
    assert path.read_bytes() == whole
    ledger.add(second, {})
    assert Ledger(path, GRID.setup).done == {first, second}


def test_a_broken_line_among_others_is_never_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_bytes(b"nonsense\n")

    with pytest.raises(DataError, match=r"cells\.jsonl:1"):
        Ledger(path, GRID.setup)
    assert path.read_bytes() == b"nonsense\n"

"""A whole grid on the tiny model: every method trains a policy, and the truth is held apart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from trajweight.bench.controls import TRANSFERRED
from trajweight.bench.episodes import Planted
from trajweight.bench.grid import Grid
from trajweight.bench.judging import Judge, Judged
from trajweight.bench.ledger import LEFT_OUT, Ledger
from trajweight.bench.results import write_results
from trajweight.bench.results_cells import read_cells
from trajweight.bench.running import run_grid
from trajweight.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trajweight.bench.results_cells import Cell

GRID = Grid(
    name="tiny",
    model="tiny",
    environments=("textarena-guess",),
    noises=(0.5,),
    usual_noise=0.5,
    validations=(8,),
    usual_validation=8,
    seeds=1,
    methods=(
        *("learned", "uniform", "permuted", "oracle", "real-only", "uniform-matched"),
        *("learned-ungated", "learned-auto-share", "uniform-auto-share"),
        *("learned-transferred", "uniform-transferred"),
        *("shorter", "less"),
    ),
    n_synthetic=12,
    n_real=4,
    n_dev=4,
    n_test=4,
    n_games=2,
    decodings=("greedy", "sampled"),
    learning={
        "model": {"adapter_layers": 0, "max_tokens": 1024},
        "inner": {"real_steps": 1, "warmup_steps": 1},
        "outer": {"min_steps": 1, "max_steps": 1, "contest_steps": 1},
        "retrain": {"epochs": 1.0},
    },
    larger="tiny",
    ablations={
        "sum loss": {"row_loss": "sum"},
        "a group head": {"outer.head": "group"},
        "no embedding": {"outer.components": 0},
    },
)


class Said(Progress):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bench")
    ledger = Ledger(made / "cells.jsonl", GRID.setup)
    judged = Judge._judged

    def counted(judge: Judge, train: Callable[[], float]) -> Judged:
        with (made / "judged").open("a") as stream:
            stream.write("once\n")
        return judged(judge, train)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "_judged", counted)
        assert run_grid(GRID, ledger, Progress()) == []
    return made


@pytest.fixture(scope="module")
def cells(folder: Path) -> dict[tuple[str, str], Cell]:
    return {(cell.method, cell.ablation): cell for cell in read_cells(folder / "cells.jsonl")}


def weights(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = cell.at("weights")
    return found


def test_every_cell_of_the_grid_is_finished(cells: dict[tuple[str, str], Cell]) -> None:
    assert set(cells) == {(cell.method, cell.ablation) for cell in GRID.cells()}


def test_every_policy_is_judged_by_the_same_rows_and_games(
    cells: dict[tuple[str, str], Cell],
) -> None:
    for cell in cells.values():
        assert cell.number("nll.test") > 0
        for decoding in GRID.decodings:
            assert cell.at(f"play.{decoding}.n") == 2
    tasks = {tuple(cell.at("play.greedy.by_task")) for cell in cells.values()}
    assert len(tasks) == 1
    assert all(task.startswith("test/") for task in tasks.pop())


def test_the_oracle_knows_the_truth_and_uniform_weights_nothing(
    cells: dict[tuple[str, str], Cell],
) -> None:
    oracle, uniform = cells["oracle", "{}"], cells["uniform", "{}"]

    assert weights(oracle)["auroc"] == 1
    assert weights(uniform)["auroc"] == 0.5
    assert weights(uniform)["ess_fraction"] == pytest.approx(1)
    assert weights(oracle)["good_mass"] == pytest.approx(1)


def test_methods_that_weigh_alike_train_alike(cells: dict[tuple[str, str], Cell]) -> None:
    learned, ungated, permuted, uniform = (
        cells[name, "{}"] for name in ("learned", "learned-ungated", "permuted", "uniform")
    )
    twin = uniform if learned.at("selected") == "uniform" else ungated
    assert learned.number("nll.test") == twin.number("nll.test")
    assert weights(ungated) == learned.at("head")
    assert weights(permuted)["ess_fraction"] == pytest.approx(weights(learned)["ess_fraction"])


def test_weights_that_several_methods_share_train_one_policy(
    folder: Path, cells: dict[tuple[str, str], Cell]
) -> None:
    apart = {"uniform-matched", *TRANSFERRED}
    told = {cell.number("nll.test") for cell in cells.values() if cell.method not in apart}
    larger = {cell.number("nll.test") for cell in cells.values() if cell.method in TRANSFERRED}

    # uniform weights for longer are a training of their own, though the weights are not
    assert len((folder / "judged").read_text().splitlines()) == len(told) + len(larger) + 1
    assert len(told) < len(cells) - 1


def test_a_share_of_real_rows_that_dev_chooses_leaves_the_weights_as_they_are(
    cells: dict[tuple[str, str], Cell],
) -> None:
    for name in ("learned", "uniform"):
        plain, chosen = cells[name, "{}"], cells[f"{name}-auto-share", "{}"]
        share = chosen.at("real_share")
        assert weights(chosen) == weights(plain)
        # of 16 rows 4 are real
        assert [each["share"] for each in share["tried"]] == [0.25, 0.5, 0.75, 0.9, 1.0]
        is_alike = chosen.number("nll.test") == plain.number("nll.test")
        assert is_alike == (share["share"] == share["before"])
        assert chosen.number("seconds.scoring") > plain.number("seconds.scoring")


def test_weights_are_transferred_as_they_are(cells: dict[tuple[str, str], Cell]) -> None:
    """The larger model is the same one here, so that its policies must be the same too."""
    for name in ("learned", "uniform"):
        plain, moved = cells[name, "{}"], cells[f"{name}-transferred", "{}"]
        assert weights(moved) == weights(plain)
        assert moved.at("nll") == plain.at("nll")
        assert moved.at("play") == plain.at("play")
        assert moved.at("larger") == "tiny"


def test_a_sum_over_tokens_makes_long_rows_count_more(cells: dict[tuple[str, str], Cell]) -> None:
    mean, total = cells["learned", "{}"], cells["learned", '{"row_loss":"sum"}']

    assert total.number("nll.test") != mean.number("nll.test")
    # the head has hardly moved, so that what is uneven is what the lengths make so
    assert total.number("head.ess_fraction") < mean.number("head.ess_fraction")


def test_weights_change_the_policy(cells: dict[tuple[str, str], Cell]) -> None:
    losses = {name: cells[name, "{}"].number("nll.test") for name in ("uniform", "oracle")}

    assert losses["uniform"] != losses["oracle"]


def test_budgets_are_equal_but_for_the_one_that_matches_the_search(
    cells: dict[tuple[str, str], Cell],
) -> None:
    of = {name: cell.number("epochs") for (name, _), cell in cells.items()}

    assert of["learned"] == of["uniform"] == of["oracle"] == of["shorter"] == 1
    assert of["uniform-matched"] in {2.0**power for power in range(12)}
    assert of["real-only"] == pytest.approx((12 + 4) / 4)  # as many steps, on fewer rows


def test_truth_is_not_read_from_the_rows(
    cells: dict[tuple[str, str], Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lying(row: Planted) -> dict[str, Any]:
        return honest(row) | {"quality": 0.0, "kind": "unknown"}

    honest = Planted.as_row
    monkeypatch.setattr(Planted, "as_row", lying)
    some = replace(GRID, methods=("learned", "shorter", "less"), ablations={})
    run_grid(some, Ledger(tmp_path / "cells.jsonl", some.setup), Progress())

    for cell in read_cells(tmp_path / "cells.jsonl"):
        assert cell.at("weights") == weights(cells[cell.method, "{}"])
        assert cell.at("nll") == cells[cell.method, "{}"].at("nll")


def test_nothing_finished_is_run_again(folder: Path) -> None:
    before = (folder / "cells.jsonl").read_bytes()
    run_grid(GRID, Ledger(folder / "cells.jsonl", GRID.setup), Progress())

    assert (folder / "cells.jsonl").read_bytes() == before


def test_a_cell_that_was_lost_is_run_again_with_the_same_result(
    folder: Path, tmp_path: Path
) -> None:
    lines = (folder / "cells.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"method":"oracle"' not in line]
    path = tmp_path / "cells.jsonl"
    path.write_bytes(b"".join(kept))
    run_grid(GRID, Ledger(path, GRID.setup), Progress())

    def oracle(file: Path) -> dict[str, Any]:
        [found] = [cell for cell in read_cells(file) if cell.method == "oracle"]
        return {name: found.at(name) for name in ("weights", "nll", "play")}

    assert oracle(path) == oracle(folder / "cells.jsonl")


def test_a_method_that_cannot_be_used_is_told_and_left_out(tmp_path: Path) -> None:
    said = Said()
    broken = replace(GRID, methods=("less",), ablations={}, validations=(0,), usual_validation=0)
    ledger = Ledger(tmp_path / "cells.jsonl", broken.setup)
    left_out = run_grid(broken, ledger, said)

    assert ledger.done == set()
    assert len(left_out) == 1
    assert "less" in left_out[0]
    assert left_out[0] in said.warned
    [line] = (tmp_path / LEFT_OUT).read_text().splitlines()
    assert json.loads(line)["method"] == "less"


def test_the_page_is_made_from_these_cells(folder: Path, tmp_path: Path) -> None:
    page, *figures = write_results(folder / "cells.jsonl", tmp_path, planned=set(GRID.cells()))

    text = page.read_text()
    assert "textarena-guess" in text
    assert all(figure.stat().st_size for figure in figures)


def test_a_larger_model_that_cannot_be_had_costs_its_own_cells_only(tmp_path: Path) -> None:
    methods = ("uniform", "uniform-transferred", "oracle-transferred")
    broken = replace(GRID, methods=methods, ablations={}, larger=str(tmp_path / "none"))
    ledger = Ledger(tmp_path / "cells.jsonl", broken.setup)
    left_out = run_grid(replace(broken, decodings=("greedy",)), ledger, Said())

    assert [cell.method for cell in ledger.done] == ["uniform"]
    assert [why.partition(",")[0] for why in left_out] == list(methods[1:])

"""The laws of WeightedSFTTrainer, run where TRL is installed; see ``pytest.ini``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset

from tests.weighing import (
    WEIGHTS,
    Gradient,
    built,
    one_step,
    per_token,
    same,
    slow_gradient,
    token_rows,
)

if TYPE_CHECKING:
    from trl import SFTTrainer

ROOT = Path(__file__).parents[2]
OURS = "trajweight.adapters.weighted_sft_trainer:WeightedSFTTrainer"
STOCK = "trl:SFTTrainer"
OBJECTIVES = ("sequence-mean", "token-weighted")
STEPS = [(4, 1), (2, 2), (3, 2), (1, 4)]


def ours(folder: Path, rows: list[dict[str, Any]], **options: Any) -> SFTTrainer:
    """Our trainer over a tiny model."""
    return built(OURS, folder, rows, **options)


def stock_step(folder: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[float, Gradient]:
    """Loss and gradient of TRL's own trainer."""
    return one_step(built(STOCK, folder, rows, **options))


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize(("batch", "steps"), STEPS)
def test_weights_of_one_give_the_stock_loss_and_gradient_to_the_last_bit(
    tmp_path: Path, batch: int, steps: int, padding_free: bool
) -> None:
    options = {"batch": batch, "steps": steps, "padding_free": padding_free}
    stock_loss, stock = stock_step(tmp_path, token_rows(None), **options)

    rows = token_rows([1.0] * 4)
    loss, found = one_step(ours(tmp_path, rows, objective="token-weighted", **options))

    assert loss == stock_loss
    assert all(torch.equal(found[name], stock[name]) for name in stock)
    assert len(found) == len(stock) > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize(("batch", "steps"), STEPS)
def test_loss_and_gradient_are_those_of_the_objective(
    tmp_path: Path, batch: int, steps: int, padding_free: bool, objective: str
) -> None:
    rows = token_rows()
    expected_loss, expected = slow_gradient(rows, per_token(rows, objective))
    options = {"batch": batch, "steps": steps, "padding_free": padding_free}

    loss, found = one_step(ours(tmp_path, rows, objective=objective, **options))

    assert loss == pytest.approx(expected_loss, rel=1e-5)
    same(found, expected)


def test_the_stock_trainer_drops_the_weights_in_silence(tmp_path: Path) -> None:
    _, stock = stock_step(tmp_path, token_rows(None))

    _, found = stock_step(tmp_path, token_rows())

    assert all(torch.equal(found[name], stock[name]) for name in stock)


def test_the_gradient_grows_with_the_weights_and_no_divisor_takes_that_back(
    tmp_path: Path,
) -> None:
    _, expected = one_step(ours(tmp_path, token_rows(), batch=2, steps=2))

    _, found = one_step(ours(tmp_path, token_rows([4 * w for w in WEIGHTS]), batch=2, steps=2))

    same(found, {name: 4 * values for name, values in expected.items()})


def test_a_step_without_any_weight_is_a_step_of_zero(tmp_path: Path) -> None:
    loss, found = one_step(ours(tmp_path, token_rows([0.0] * 4), batch=2, steps=2))

    assert loss == 0.0
    assert all((values == 0.0).all() for values in found.values())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_evaluation_is_unweighted_whether_its_rows_have_weights_or_not(
    tmp_path: Path, weights: tuple[float, ...] | None
) -> None:
    held_out = Dataset.from_list(token_rows(weights, seed=5))

    found = ours(tmp_path, token_rows(), eval_dataset=held_out).evaluate()["eval_loss"]

    stock = built(STOCK, tmp_path, token_rows(None), eval_dataset=held_out)
    assert found == stock.evaluate()["eval_loss"]


def test_each_step_tells_mean_and_effective_sample_size_of_its_weights(tmp_path: Path) -> None:
    trainer = ours(tmp_path, token_rows(), batch=1, steps=2, max_steps=2)

    trainer.train()

    told = [line for line in trainer.state.log_history if "loss" in line]
    for line, pair in zip(told, (WEIGHTS[:2], WEIGHTS[2:]), strict=True):
        assert line["weight/mean"] == pytest.approx(sum(pair) / 2)
        squares = sum(w * w for w in pair)
        assert line["weight/ess_fraction"] == pytest.approx(sum(pair) ** 2 / (2 * squares))
        assert "entropy" in line  # and what TRL tells


def test_weights_stand_beside_messages_that_trl_itself_prepares(tmp_path: Path) -> None:
    words = ("go left", "open the red door and look", "yes")
    talks = [
        {
            "prompt": [{"role": "user", "content": f"say {n}"}],
            "completion": [{"role": "assistant", "content": said}],
            "weight": weight,
        }
        for n, (said, weight) in enumerate(zip(words, (0.2, 2.0, 0.8), strict=True))
    ]
    trainer = ours(tmp_path, talks, batch=1, steps=3)
    prepared = [
        {name: row[name] for name in ("input_ids", "labels", "weight")}
        for row in trainer.train_dataset
    ]
    _, expected = slow_gradient(prepared, per_token(prepared, "sequence-mean"))

    _, found = one_step(trainer)

    same(found, expected)


# --- packing -------------------------------------------------------------------------------------


def with_token_weights() -> list[dict[str, Any]]:
    """Rows where every token has a weight of its own."""
    rows = token_rows(None)
    generator = torch.Generator().manual_seed(1)
    for row in rows:
        row["loss_weights"] = torch.rand(len(row["labels"]), generator=generator).tolist()
    return rows


def test_packing_is_refused_where_a_row_has_one_weight(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="packing would drop the weight of each row"):
        ours(tmp_path, token_rows(), packing=True, max_length=64)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_weights_of_tokens_survive_packing(tmp_path: Path, strategy: str) -> None:
    rows = with_token_weights()
    _, expected = slow_gradient(rows, [row["loss_weights"] for row in rows])
    trainer = ours(tmp_path, rows, packing=True, packing_strategy=strategy, max_length=32, batch=1)
    trainer.args.gradient_accumulation_steps = len(trainer.train_dataset)

    _, found = one_step(trainer)

    assert len(trainer.train_dataset) < len(rows)
    same(found, expected)


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_weights_of_tokens_are_cut_with_their_tokens(tmp_path: Path, mode: str) -> None:
    rows = with_token_weights()
    place = slice(None, 12) if mode == "keep_start" else slice(-12, None)
    cut = [{name: part[place] for name, part in row.items()} for row in rows]
    _, expected = slow_gradient(cut, [row["loss_weights"] for row in cut])

    _, found = one_step(ours(tmp_path, rows, max_length=12, truncation_mode=mode))

    same(found, expected)


def test_weights_of_tokens_need_the_tokens_they_are_for(tmp_path: Path) -> None:
    rows = [{"text": "go left", "loss_weights": [1.0, 1.0]}]

    with pytest.raises(ValueError, match="loss_weights but no input_ids and no labels"):
        ours(tmp_path, rows)


# --- refused, and together -----------------------------------------------------------------------


def test_rows_without_weights_are_no_rows_to_train_on(tmp_path: Path) -> None:
    trainer = ours(tmp_path, token_rows(None))

    with pytest.raises(ValueError, match="neither weight nor loss_weights"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"loss_type": "dft"}, "loss_type is 'dft'; only 'nll' can be weighted"),
        ({"objective": "mean"}, "objective is 'mean'"),
    ],
)
def test_settings_that_would_undo_the_weights_are_refused(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ours(tmp_path, token_rows(), **options)


def test_two_processes_find_the_gradient_of_one(tmp_path: Path) -> None:
    rows = token_rows()
    expected_loss, expected = slow_gradient(rows, per_token(rows, "sequence-mean"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", "2", "-m", "tests.weighing", OURS, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr
    both = [torch.load(tmp_path / f"{n}.pt") for n in (0, 1)]
    losses = [found.pop("loss") for found in both]
    assert sum(losses) / 2 == pytest.approx(expected_loss, rel=1e-5)
    for found in both:
        same(found, expected)

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    MixtralConfig,
    MixtralForCausalLM,
)

from tests.weighing import (
    WEIGHTS,
    built,
    one_step,
    per_token,
    same,
    slow_gradient,
    slow_loss,
    token_rows,
)
from trajweight.adapters.weighted_trainer import (
    WeightedCollator,
    exposure,
    token_losses,
    weighted_sampler,
)
from trajweight.tiny import build_tiny

ROOT = Path(__file__).parents[3]
OURS = "trajweight.adapters.weighted_trainer:WeightedTrainer"
STOCK = "transformers:Trainer"
OBJECTIVES = ("sequence-mean", "token-weighted")


def padding(side: str = "right") -> DataCollatorForSeq2Seq:
    tokenizer = build_tiny()[1]
    tokenizer.padding_side = side
    return DataCollatorForSeq2Seq(tokenizer)


def ours(folder, rows, **options):
    options.setdefault("data_collator", padding())
    return built(OURS, folder, rows, **options)


# --- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("batch", "steps"), [(4, 1), (2, 2), (1, 4)])
def test_weights_of_one_give_the_stock_loss_and_gradient_to_the_last_bit(
    tmp_path, batch, steps, side
) -> None:
    options = {"batch": batch, "steps": steps, "data_collator": padding(side)}
    stock_loss, stock = one_step(built(STOCK, tmp_path, token_rows(None), **options))

    loss, found = one_step(
        ours(tmp_path, token_rows([1.0] * 4), objective="token-weighted", **options)
    )

    assert loss == stock_loss
    assert all(torch.equal(found[name], stock[name]) for name in stock)
    assert len(found) == len(stock) > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("batch", "steps"), [(4, 1), (2, 2), (3, 2), (1, 4)])
def test_loss_and_gradient_are_those_of_the_objective(tmp_path, batch, steps, objective) -> None:
    rows = token_rows()
    expected_loss, expected = slow_gradient(rows, per_token(rows, objective))

    loss, found = one_step(ours(tmp_path, rows, objective=objective, batch=batch, steps=steps))

    assert loss == pytest.approx(expected_loss, rel=1e-5)
    same(found, expected)


@pytest.mark.parametrize(("batch", "steps"), [(4, 1), (2, 2)])
def test_a_model_that_takes_no_divisor_is_weighted_all_the_same(
    tmp_path, monkeypatch, batch, steps
) -> None:
    rows = token_rows()
    _, expected = slow_gradient(rows, per_token(rows, "sequence-mean"))
    model = build_tiny()[0]
    monkeypatch.setattr(model, "accepts_loss_kwargs", False, raising=False)

    _, found = one_step(ours(tmp_path, rows, model=model, batch=batch, steps=steps))

    same(found, expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_first_token_of_a_row_is_never_trained_on(tmp_path, objective) -> None:
    rows = [{**row, "labels": row["input_ids"]} for row in token_rows()]
    _, expected = slow_gradient(rows, per_token(rows, objective))

    _, found = one_step(ours(tmp_path, rows, objective=objective, batch=2, steps=2))

    same(found, expected)


def test_the_stock_trainer_drops_the_weights_in_silence(tmp_path) -> None:
    _, stock = one_step(built(STOCK, tmp_path, token_rows(None), data_collator=padding()))

    _, found = one_step(built(STOCK, tmp_path, token_rows(), data_collator=padding()))

    assert all(torch.equal(found[name], stock[name]) for name in stock)


def test_weights_of_tokens_are_used_as_they_are(tmp_path) -> None:
    rows = token_rows()
    generator = torch.Generator().manual_seed(1)
    for row in rows:
        row["loss_weights"] = torch.rand(len(row["labels"]), generator=generator).tolist()
    _, expected = slow_gradient(rows, [row["loss_weights"] for row in rows])

    _, found = one_step(ours(tmp_path, rows, batch=2, steps=2))

    same(found, expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_side_of_padding_does_not_matter(tmp_path, objective) -> None:
    rows = token_rows()
    _, expected = slow_gradient(rows, per_token(rows, objective))

    _, found = one_step(
        ours(tmp_path, rows, data_collator=padding("left"), objective=objective, batch=2, steps=2)
    )

    same(found, expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("batch", "steps"), [(4, 1), (2, 2)])
def test_rows_in_one_without_padding_count_as_they_do_apart(
    tmp_path, batch, steps, objective
) -> None:
    rows = token_rows()
    _, expected = slow_gradient(rows, per_token(rows, objective))
    collator = DataCollatorWithFlattening()

    _, found = one_step(
        ours(tmp_path, rows, data_collator=collator, objective=objective, batch=batch, steps=steps)
    )

    same(found, expected)


def test_the_gradient_grows_with_the_weights_and_no_divisor_takes_that_back(tmp_path) -> None:
    _, expected = one_step(ours(tmp_path, token_rows(), batch=2, steps=2))

    _, found = one_step(ours(tmp_path, token_rows([4 * w for w in WEIGHTS]), batch=2, steps=2))

    same(found, {name: 4 * values for name, values in expected.items()})


def test_the_mean_over_small_steps_is_the_gradient_of_all_rows(tmp_path) -> None:
    rows = token_rows()
    _, whole = one_step(ours(tmp_path, rows, batch=4, steps=1))

    steps = [one_step(ours(tmp_path, [row], batch=1, steps=1))[1] for row in rows]

    mean = {name: sum(step[name] for step in steps) / len(rows) for name in whole}
    same(mean, whole)


@pytest.mark.parametrize("without", ["weight", "labels"])
def test_a_row_that_counts_nothing_is_no_more_than_one_of_the_rows(tmp_path, without) -> None:
    rows = token_rows()
    _, expected = slow_gradient(rows[1:], per_token(rows[1:], "sequence-mean"))
    if without == "weight":
        rows[0]["weight"] = 0.0
        expected = {name: values * 3 / 4 for name, values in expected.items()}
    else:
        rows[0]["labels"] = [-100] * len(rows[0]["labels"])

    _, found = one_step(ours(tmp_path, rows, batch=1, steps=4))

    same(found, expected)


def test_a_step_without_any_weight_is_a_step_of_zero(tmp_path) -> None:
    loss, found = one_step(ours(tmp_path, token_rows([0.0] * 4), batch=2, steps=2))

    assert loss == 0.0
    assert all((values == 0.0).all() for values in found.values())


@pytest.mark.slow
def test_two_processes_find_the_gradient_of_one(tmp_path) -> None:
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
    assert losses[0] != losses[1]  # each had rows of its own
    for found in both:
        same(found, expected)


# --- evaluation and logs -------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_evaluation_is_unweighted_whether_its_rows_have_weights_or_not(tmp_path, weights) -> None:
    held_out = Dataset.from_list(token_rows(weights, seed=5))
    trainer = ours(tmp_path, token_rows(), eval_dataset=held_out)
    stock = built(STOCK, tmp_path, token_rows(None), data_collator=padding())

    found = trainer.evaluate()["eval_loss"]

    assert found == stock.evaluate(held_out)["eval_loss"]


def test_each_step_tells_mean_and_effective_sample_size_of_its_weights(tmp_path) -> None:
    trainer = ours(tmp_path, token_rows(), batch=1, steps=2, max_steps=2)

    trainer.train()

    told = [line for line in trainer.state.log_history if "loss" in line]
    for line, pair in zip(told, (WEIGHTS[:2], WEIGHTS[2:]), strict=True):
        assert line["weight/mean"] == pytest.approx(sum(pair) / 2)
        squares = sum(w * w for w in pair)
        assert line["weight/ess_fraction"] == pytest.approx(sum(pair) ** 2 / (2 * squares))


def test_a_batch_tells_what_its_rows_count() -> None:
    """Nothing where nothing is trained on; and the mean over tokens where that is all there is."""
    rows = token_rows()
    rows[0]["labels"] = [-100] * len(rows[0]["labels"])
    bare = [{**row, "loss_weights": [2.0] * len(row["labels"])} for row in token_rows(None)]

    by_row, by_token = (WeightedCollator(padding())(each) for each in (rows, bare))

    assert by_row["weight"].tolist() == pytest.approx([0.0, *WEIGHTS[1:]])
    assert by_token["weight"].tolist() == [2.0] * 4
    assert by_row["loss_weights"].sum(1).tolist() == pytest.approx([0.0, *WEIGHTS[1:]])


def test_the_loss_that_is_logged_is_the_weighted_one(tmp_path) -> None:
    rows = token_rows()
    expected = slow_loss(build_tiny()[0], rows, per_token(rows, "sequence-mean")).item()
    trainer = ours(tmp_path, rows, batch=1, steps=4)

    trainer.train()

    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


# --- what is refused -----------------------------------------------------------------------------


def test_rows_without_weights_are_no_rows_to_train_on(tmp_path) -> None:
    trainer = ours(tmp_path, token_rows(None))

    with pytest.raises(
        ValueError, match="neither weight nor loss_weights; the batch has input_ids"
    ):
        trainer.train()


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (None, "1 of 4 rows of a batch have no weight"),
        (-1.0, "a weight is -1.0; weights are finite, and zero or more"),
        (float("nan"), "a weight is nan"),
        (float("inf"), "a weight is inf"),
    ],
)
def test_a_weight_that_is_none_is_named(weight, told) -> None:
    rows = token_rows()
    rows[2]["weight"] = weight

    with pytest.raises(ValueError, match=told):
        WeightedCollator(padding())(rows)


def test_weights_that_do_not_fit_the_tokens_are_refused() -> None:
    def shortening(rows):
        return padding()([{name: part[:5] for name, part in row.items()} for row in rows])

    with pytest.raises(ValueError, match="made 20 tokens of rows that have 52"):
        WeightedCollator(shortening)(token_rows())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"objective": "mean"}, "objective is 'mean'; it can be sequence-mean or token-weighted"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is set"),
        ({"compute_loss_func": token_losses}, "compute_loss_func is set"),
    ],
)
def test_settings_that_would_undo_the_weights_are_refused(tmp_path, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        ours(tmp_path, token_rows(), **options)


def test_a_loss_of_a_router_is_refused(tmp_path) -> None:
    config = MixtralConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
        output_router_logits=True,
    )

    with pytest.raises(ValueError, match="the model adds a loss of its router"):
        ours(tmp_path, token_rows(), model=MixtralForCausalLM(config))


# --- samplers ------------------------------------------------------------------------------------

SOME_WEIGHTS = st.lists(st.floats(0, 100), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-3)


@given(SOME_WEIGHTS, st.integers(1, 50))
def test_the_same_seed_draws_the_same_rows_and_none_of_weight_zero(weights, draws) -> None:
    first, again = (list(weighted_sampler(weights, seed=3, draws=draws)) for _ in range(2))

    assert first == again
    assert len(first) == draws
    assert all(np.float32(weights[row]) > 0 for row in first)


def test_rows_are_drawn_by_weight() -> None:
    n = 200_000

    drawn = torch.bincount(torch.tensor(list(weighted_sampler(WEIGHTS, seed=0, draws=n))))

    expected = torch.tensor(WEIGHTS) / sum(WEIGHTS)
    deviation = (expected * (1 - expected) / n).sqrt()
    assert ((drawn / n - expected).abs() < 5 * deviation).all()


def test_exposure_is_what_draws_show_on_average() -> None:
    draws = [
        list(weighted_sampler(WEIGHTS, seed=seed, draws=6)) for seed in range(4000)
    ]  # 4000 means: the deviation of a mean is below 0.02

    shown = exposure(WEIGHTS, 6)

    assert np.mean([len(set(each)) for each in draws]) == pytest.approx(shown.distinct, abs=0.06)
    assert np.mean([each.count(1) for each in draws]) == pytest.approx(shown.most, abs=0.08)
    assert shown.draws == 6
    assert exposure([1.0, 1.0]) == (2, 1.5, 1.0)


def test_nothing_can_be_drawn_of_weights_that_are_all_zero() -> None:
    with pytest.raises(ValueError, match="all of 3 weights are zero"):
        weighted_sampler([0.0, 0.0, 0.0], seed=0)

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
import torch

from trajweight.config import OuterConfig, ReturnsConfig
from trajweight.objective import beforehand, objective_of
from trajweight.outer import OuterLevel
from trajweight.reweighting import HeadShape, Prior, new_head

SCHEMA = {
    "traj_id": pl.String,
    "split": pl.String,
    "origin": pl.String,
    "task_id": pl.String,
    "reward": pl.Float64,
    "success": pl.Boolean,
}


def table(*rows: tuple[str, str, float | None], origin: str = "real") -> pl.DataFrame:
    """Rows of a split, a task and a reward, named a, b, c and so on."""
    whole = [
        ("abcdefgh"[place], split, origin, task, reward, None)
        for place, (split, task, reward) in enumerate(rows)
    ]
    return pl.DataFrame(whole, schema=SCHEMA, orient="row")


HELD = table(
    ("validation", "t", 3.0),
    ("validation", "t", 1.0),
    ("validation", "t", None),
    ("validation", "u", 2.0),
    ("dev", "v", 5.0),
    ("dev", "v", 7.0),
    ("train", "w", 9.0),
)


def test_to_imitate_counts_all_held_out_rows_alike_and_looks_at_no_return() -> None:
    found = objective_of(HELD, ReturnsConfig())

    assert found.within == dict.fromkeys("abcdef", 1.0)
    assert (found.n_outer, found.facts, found.remark) == (4, {}, "")


def test_the_successful_rows_are_those_a_filter_by_hand_keeps() -> None:
    best = objective_of(HELD, ReturnsConfig(objective="successful"))
    enough = objective_of(HELD, ReturnsConfig(objective="successful", success_threshold=2.0))

    assert set(best.within) == {"a", "f"}  # u has nothing to compare with
    assert set(enough.within) == {"a", "d", "e", "f"}
    assert enough.facts == {
        "objective": "successful",
        "validation": 4,
        "validation_with_return": 3,
        "validation_counted": 2,
    }


def test_return_weighted_rows_count_by_their_return_inside_the_task() -> None:
    found = objective_of(HELD, ReturnsConfig(objective="return-weighted", beta=2.0))

    e = math.exp(0.5)
    wanted = {"a": e, "b": 1 / e, "c": 1.0, "d": 1.0, "e": 1 / e, "f": e}
    assert found.within == pytest.approx(wanted)
    assert found.n_outer == 4


@pytest.mark.parametrize("objective", ["successful", "return-weighted"])
@pytest.mark.parametrize("reward", [None, 0.0, 0.5])
def test_where_returns_tell_nothing_apart_all_rows_are_imitated_and_it_is_said(
    objective: Any, reward: float | None
) -> None:
    same = table(("validation", "t", reward), ("validation", "t", reward), ("dev", "v", 1.0))

    found = objective_of(same, ReturnsConfig(objective=objective))

    assert (found.name, found.within) == ("imitate", dict.fromkeys("abc", 1.0))
    assert f"the objective {objective} cannot be had from the 2 real validation" in found.remark
    assert f"({0 if reward is None else 2} have" in found.remark
    assert found.sentence == objective_of(same, ReturnsConfig()).sentence


def test_a_prior_has_a_factor_for_each_row_in_the_order_of_the_rows() -> None:
    rows = table(
        ("train", "t", 3.0), ("train", "u", 8.0), ("train", "t", 1.0), ("train", "t", None)
    )

    rwr = beforehand(rows, ReturnsConfig(prior="rwr", beta=0.5, cap=9.0), floor=0.1)
    kept = beforehand(rows, ReturnsConfig(prior="filtered"), floor=0.1)

    assert rwr.prior is not None
    assert kept.prior is not None
    assert rwr.prior.factors.tolist() == pytest.approx([math.exp(2), 1.0, math.exp(-2), 1.0])
    assert rwr.prior.cap == 9.0
    assert kept.prior.factors.tolist() == pytest.approx([1.0, 1.0, 0.1, 1.0])
    assert (rwr.facts["synthetic"], rwr.facts["synthetic_with_return"]) == (4, 3)


@pytest.mark.parametrize("prior", ["rwr", "filtered"])
def test_a_prior_that_tells_no_rows_apart_is_none_and_it_is_said(prior: Any) -> None:
    rows = table(("train", "t", 3.0), ("train", "u", 8.0), ("train", "v", None))

    found = beforehand(rows, ReturnsConfig(prior=prior), floor=0.1)

    assert found.prior is None
    assert f"the prior {prior} changes nothing: 2 of the 3" in found.remark


def outer_level(prior: Prior | None, **config: Any) -> OuterLevel:
    inputs = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    head = new_head(HeadShape("mlp", 2), inputs, seed=0)
    return OuterLevel(head, inputs, torch.ones(6), OuterConfig(**config), prior=prior)


FACTORS = torch.tensor([9.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_the_loop_begins_at_the_prior() -> None:
    level = outer_level(Prior(FACTORS, 20.0))

    torch.testing.assert_close(level.weights(), FACTORS / FACTORS.mean())
    torch.testing.assert_close(level.averaged_weights(), FACTORS / FACTORS.mean())


def test_the_head_follows_d_on_top_of_the_prior() -> None:
    level = outer_level(Prior(FACTORS, 20.0))
    d = torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])

    for _ in range(30):
        level.step(range(6), d, level.weights())

    alone = FACTORS / FACTORS.mean()
    assert level.weights()[0] / level.weights()[1] < alone[0] / alone[1]


def test_the_target_of_ess_binds_the_head_and_not_the_prior() -> None:
    prior = Prior(FACTORS, 20.0)
    free, bound = (outer_level(prior, target_ess=target) for target in (0.1, 0.99))
    d = torch.tensor([0.0, -1.0, 1.0, 0.0, 0.0, 0.0])

    bound.step(range(6), torch.zeros(6), bound.weights())
    started_with = bound.multiplier
    for _ in range(40):
        for level in (free, bound):
            level.step(range(6), d, level.weights())

    assert prior.ess_fraction < 0.99  # alone it misses the target
    assert started_with == bound.config.ess_penalty
    assert bound.multiplier > free.multiplier == free.config.ess_penalty
    assert prior.kept(bound.weights()) > prior.kept(free.weights())


def test_what_is_kept_of_the_ess_is_all_at_the_prior_and_the_whole_ess_without_one() -> None:
    weights = torch.tensor([0.5, 1.5, 1.0, 0.2, 1.8, 1.0])
    prior, plain = Prior(FACTORS, 20.0), Prior(torch.ones(6), 20.0)

    at_prior = prior.weights.requires_grad_()
    kept = prior.kept(at_prior)
    kept.backward()

    assert at_prior.grad is not None
    assert kept.item() == pytest.approx(1)
    assert at_prior.grad.abs().max().item() < 1e-6  # so the penalty does not pull away from it
    assert prior.kept(weights).item() < 1
    assert plain.kept(weights).item() == pytest.approx(6 / weights.square().sum().item())

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from tests.toy import CLASSES, INNER, N_REAL, N_SYNTHETIC, OUTER, Toy, search_of
from trajweight.bilevel import Search, learn, rank_correlation
from trajweight.config import OuterConfig
from trajweight.contest import contest
from trajweight.errors import DivergenceError
from trajweight.estimators import Ghost
from trajweight.inner import MOST_SKIPPED, InnerLevel
from trajweight.outer import OuterLevel
from trajweight.reweighting import HeadShape, new_head
from trajweight.warmup import Warmed, train_until_flat


def learned_weights(toy: Toy, *, seed: int = 0, outer: OuterConfig = OUTER) -> Tensor:
    search = search_of(toy, seed=seed, outer=outer)
    learn(search, watch=lambda _: None)
    return search.outer.averaged_weights()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_with_planted_wrong_labels_lose_weight(seed) -> None:
    toy = Toy(n_bad=80, seed=seed)

    weights = learned_weights(toy, seed=seed)

    assert roc_auc_score(1 - toy.is_bad, weights) > 0.85


def test_validation_rows_from_the_bad_source_turn_the_order_around() -> None:
    toy = Toy(n_bad=80)
    held_out = slice(N_REAL + N_SYNTHETIC, None)
    toy.y[held_out] = (toy.y[held_out] + 1) % CLASSES

    weights = learned_weights(toy)

    assert roc_auc_score(1 - toy.is_bad, weights) < 0.15


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    few = OuterConfig(max_steps=12)

    first, again = (learned_weights(Toy(n_bad=80), outer=few) for _ in range(2))
    other = learned_weights(Toy(n_bad=80), seed=1, outer=few)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_stronger_penalty_keeps_more_effective_rows() -> None:
    toy = Toy(n_bad=80)

    loose, tight = (
        learned_weights(toy, outer=OuterConfig(max_steps=60, min_steps=60, ess_penalty=penalty))
        for penalty in (0.0, 1.0)
    )

    assert float(tight.square().mean()) < float(loose.square().mean())


def test_every_row_is_drawn_once_an_epoch() -> None:
    toy = Toy(n_bad=0)
    inner = InnerLevel(toy.problem(), INNER, seed=0)

    drawn = itertools.islice(inner.batches(list(range(12)), size=5), 12)

    counts = torch.bincount(torch.tensor([row for rows in drawn for row in rows]))
    assert counts.tolist() == [5] * 12


def test_a_contest_leaves_the_inner_level_as_it_was() -> None:
    toy = Toy(n_bad=80)
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    for rows in itertools.islice(inner.batches(toy.synthetic, size=16), 3):
        inner.step(rows, torch.ones(len(rows)))
    start = inner.state()
    inner.step([0, 1], torch.ones(2))
    before = toy.linear.weight.detach().clone()

    contest(
        inner,
        start,
        {"uniform": torch.ones(N_SYNTHETIC)},
        steps=3,
        judge=[0, 1],
        watch=lambda: None,
    )

    assert torch.equal(toy.linear.weight, before)


def test_the_truth_wins_a_contest_against_uniform() -> None:
    toy = Toy(n_bad=80)
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    inner.step([0, 1], torch.ones(2))
    candidates = {"uniform": torch.ones(N_SYNTHETIC), "truth": 2 * (1 - toy.is_bad)}

    found = contest(
        inner,
        inner.state(),
        candidates,
        steps=60,
        judge=inner.problem.validation,
        watch=lambda: None,
    )

    assert found["truth"].judged.mean() < found["uniform"].judged.mean()
    assert found["truth"].outer < found["uniform"].outer


def test_a_loss_that_is_not_finite_is_skipped_and_the_rate_is_halved() -> None:
    toy = Toy(n_bad=0)
    toy.x[17] = float("nan")
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    before = toy.linear.weight.detach().clone()

    inner.step([16, 17], torch.ones(2))

    assert torch.equal(toy.linear.weight, before)
    assert inner.skipped == 1
    assert inner.optimizer.param_groups[0]["lr"] == INNER.learning_rate / 2


def test_losses_that_stay_non_finite_stop_with_the_rows_named() -> None:
    toy = Toy(n_bad=0)
    toy.x[17] = float("nan")
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    for _ in range(MOST_SKIPPED):
        inner.step([16, 17], torch.ones(2))

    with pytest.raises(DivergenceError, match="4 steps in a row") as caught:
        inner.step([16, 17], torch.ones(2))

    assert caught.value.rows == (17,)


def test_batches_without_synthetic_rows_do_not_count_as_outer_steps() -> None:
    toy = Toy(n_bad=80)
    inner = InnerLevel(replace(toy.problem(), synthetic=toy.synthetic[:3]), INNER, seed=0)
    inner.step([0, 1], torch.ones(2))
    config, inputs = OuterConfig(max_steps=5, min_steps=5), torch.randn(3, 2)
    outer = OuterLevel(new_head(HeadShape("mlp", 2), inputs, seed=0), inputs, torch.ones(3), config)
    seen: list[float] = []

    learn(Search([inner], outer, Ghost(), config), watch=lambda facts: seen.append(facts["step"]))

    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("target", [0.5, 0.9])
def test_the_effective_sample_size_comes_to_its_target(target) -> None:
    toy = Toy(n_bad=80)
    outer = OuterConfig(max_steps=300, min_steps=300, ess_penalty=0.0, target_ess=target)

    weights = learned_weights(toy, outer=outer)

    free = learned_weights(toy, outer=replace(outer, target_ess=0.01))
    assert ess_fraction(free) < target - 0.05
    # The multiplier swings about the constraint; the average of heads follows it.
    assert ess_fraction(weights) == pytest.approx(target, abs=0.1)


def ess_fraction(weights: Tensor) -> float:
    return float(weights.sum().square() / weights.square().sum()) / len(weights)


@pytest.mark.parametrize(
    ("looks", "warmed"),
    [
        ([1.0] * 20, Warmed(6, is_flat=True)),
        ([2.0**-i for i in range(20)], Warmed(24, is_flat=False)),
        ([1.0, 0.5, 0.2, 0.1, 0.3], Warmed(18, is_flat=True)),
        ([1.0, 0.8, 0.7, 0.1], Warmed(10, is_flat=True)),
    ],
    ids=["flat from the start", "falling on", "rising later", "slowly falling"],
)
def test_the_warm_up_ends_when_the_outer_loss_is_flat(looks, warmed) -> None:
    remaining = iter(looks)
    problem = replace(
        Toy(n_bad=0).problem(), evaluate=lambda rows: torch.full((len(rows),), next(remaining))
    )
    inner = InnerLevel(problem, INNER, seed=0)

    made = train_until_flat(inner, problem.real, size=2, least=6, sample=64, watch=lambda _: None)

    assert made == warmed


def test_rank_correlation_equals_scipys() -> None:
    from scipy.stats import spearmanr

    left, right = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))

    expected = spearmanr(left.numpy(), right.numpy()).statistic

    assert rank_correlation(left, right) == pytest.approx(expected, abs=1e-12)


def test_constant_weights_have_no_ranks() -> None:
    assert rank_correlation(torch.ones(5), torch.arange(5.0)) == 0.0

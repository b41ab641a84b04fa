from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.toy import INNER, N_REAL, N_SYNTHETIC, N_VALIDATION, Toy, material_of
from trajweight.config import OuterConfig, RunConfig
from trajweight.inner import InnerLevel
from trajweight.progress import Progress
from trajweight.reweighting import Prior
from trajweight.verdict import Candidate, Verdict, chosen, hold_contest, temperatures_that_keep

VALIDATION = list(range(N_REAL + N_SYNTHETIC, N_REAL + N_SYNTHETIC + N_VALIDATION))
CONFIG = RunConfig(inner=INNER, outer=OuterConfig(contest_steps=20))


def held(
    toy: Toy,
    weights: Tensor,
    *,
    prior: Prior | None = None,
    within: list[float] | None = None,
    config: RunConfig = CONFIG,
) -> Verdict:
    """A contest on a toy whose validation rows are of four tasks and judge in place of dev."""
    material = material_of(toy, within=within, prior=prior)
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    return hold_contest(inner, inner.state(), {1.0: weights}, material, config, Progress())


def test_without_a_prior_uniform_weights_are_what_learning_has_to_beat() -> None:
    toy = Toy(n_bad=80)
    truth = 2 * (1 - toy.is_bad)

    found = held(toy, truth)

    assert found.alone is None
    assert found.baseline is found.uniform
    assert found.wins
    assert [each["temperature"] for each in found.tradeoff()] == [1.0, None]


def test_with_a_prior_returns_alone_are_what_learning_has_to_beat() -> None:
    """Returns that know the truth leave nothing to learn, though uniform weights are beaten."""
    toy = Toy(n_bad=80)
    truth = 2 * (1 - toy.is_bad)
    knowing = Prior(truth + 1e-9, cap=20.0)

    found = held(toy, truth, prior=knowing)

    assert found.alone is not None
    assert found.baseline is found.alone
    torch.testing.assert_close(found.alone.weights, truth)
    assert found.alone.loss < found.uniform.loss
    assert found.gain == pytest.approx(0, abs=1e-6)
    assert [each["temperature"] for each in found.tradeoff()] == [1.0, None, None]


def test_rows_judge_as_much_as_they_count_within_their_task() -> None:
    toy = Toy(n_bad=80)
    within = [1.0] * len(toy.x)
    for row in VALIDATION[:40]:
        within[row] = 1e-12

    of_all, of_half = (
        held(toy, torch.ones(N_SYNTHETIC)),
        held(toy, torch.ones(N_SYNTHETIC), within=within),
    )

    # Both models are the same, so only who judges differs: here the second half, tasks alike.
    inner = InnerLevel(toy.problem(), INNER, seed=0)
    for rows in _batches(inner, of_half.steps):
        inner.step(rows, torch.ones(len(rows)))
    losses = inner.problem.evaluate(VALIDATION)
    by_task = torch.stack([losses[40:][task::4].mean() for task in range(4)])
    torch.testing.assert_close(of_half.uniform.by_task, by_task)
    assert of_half.uniform.loss != of_all.uniform.loss


def _batches(inner: InnerLevel, steps: int) -> list[list[int]]:
    stream = inner.batches(inner.problem.training, size=2 * INNER.batch_size)
    return [next(stream) for _ in range(steps)]


def test_what_a_short_contest_leaves_open_a_longer_one_decides() -> None:
    toy = Toy(n_bad=80)
    truth = 2 * (1 - toy.is_bad)
    slightly = 1 + 0.3 * (truth - 1)

    clear, left_open, alike = (
        held(toy, weights, config=_contest_of(2))
        for weights in (truth, slightly, torch.ones(N_SYNTHETIC))
    )
    outright = held(toy, slightly, config=_contest_of(8))

    assert (clear.is_open, clear.steps) == (False, 2)
    assert (alike.is_open, alike.wins, alike.steps) == (False, False, 2)
    # It begins anew: what it says is what a contest of that length says.
    assert left_open.steps == outright.steps == 8
    assert (left_open.gain, left_open.error) == (outright.gain, outright.error)


def _contest_of(steps: int) -> RunConfig:
    return replace(CONFIG, outer=replace(CONFIG.outer, contest_steps=steps))


def test_a_target_that_returns_alone_miss_still_leaves_the_head_its_temperature() -> None:
    factors = torch.tensor([50.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    prior = Prior(factors, cap=20.0)
    scores = torch.tensor([0.0, 0.3, -0.3, 0.2, -0.2, 0.0])

    def weights_at(temperature: float) -> Tensor:
        return (factors * torch.exp(scores / temperature)) / (
            factors * torch.exp(scores / temperature)
        ).mean()

    assert prior.ess_fraction < 0.4
    kept = temperatures_that_keep(weights_at, [0.5, 1.0], target_ess=0.4, prior=prior)
    assert kept == [0.5, 1.0]
    flattened = temperatures_that_keep(weights_at, [0.5, 1.0], target_ess=0.4)
    assert min(flattened) > 1000


def candidate(temperature: float, by_task: list[float]) -> Candidate:
    losses = torch.tensor(by_task)
    return Candidate(temperature, torch.ones(3), 1.0, float(losses.mean()), 0.0, losses)


def test_a_temperature_must_be_better_beyond_noise_to_take_the_place_of_one() -> None:
    trained = candidate(1.0, [1.0, 1.0, 1.0, 1.0])
    lucky = candidate(0.5, [0.2, 1.3, 1.2, 0.9])
    better = candidate(2.0, [0.9, 0.8, 0.9, 0.8])

    assert chosen([lucky, trained]) is trained
    assert chosen([lucky, trained, better]) is better


def test_where_one_is_not_among_the_temperatures_the_nearest_to_it_stands_for_it() -> None:
    sharp, flat = candidate(1.5, [1.0, 1.0]), candidate(8.0, [1.0, 1.0])

    assert chosen([sharp, flat]) is sharp

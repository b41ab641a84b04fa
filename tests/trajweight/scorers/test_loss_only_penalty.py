from __future__ import annotations

import torch

from tests.toy import INNER, Bent, Ridge
from trajweight.bilevel import rank_correlation
from trajweight.config import InnerConfig
from trajweight.estimators import Estimator, Penalty
from trajweight.inner import InnerLevel
from trajweight.scorers.loss_only_penalty import LossOnly

ROWS = list(range(4, 20))
WEIGHTS = torch.linspace(0.5, 1.5, len(ROWS), dtype=torch.float64)


def test_it_is_the_penalty_but_for_what_should_be_subtracted() -> None:
    whole = InnerLevel(Bent().problem(), INNER, seed=0)
    faulty = InnerLevel(Bent().problem(), INNER, seed=0)
    right = Penalty(strength=7.0, validation_size=64).begin(whole)
    wrong = LossOnly(strength=7.0, validation_size=64).begin(faulty)

    for _ in range(4):
        subtracted = 7.0 * whole.problem.evaluate(ROWS) / len(ROWS)
        one, two = right.step(ROWS, WEIGHTS), wrong.step(ROWS, WEIGHTS)

        assert one is not None
        assert two is not None
        torch.testing.assert_close(two.d - subtracted, one.d)
        assert two.outer_loss == one.outer_loss


def test_it_ranks_rows_by_their_loss_where_the_penalty_ranks_them_as_the_truth_does() -> None:
    config = InnerConfig(learning_rate=0.01, batch_size=68)
    truth = Ridge().exact_d(Ridge().weights)
    found = {}
    estimators: dict[str, Estimator] = {"penalty": Penalty(), "loss only": LossOnly(10.0, 64)}
    for name, estimator in estimators.items():
        ridge = Ridge()
        inner = InnerLevel(ridge.problem(), config, seed=0)
        with torch.no_grad():
            inner.parameters[0].copy_(ridge.minimum(ridge.weights)[None])
        running = estimator.begin(inner)
        steps = [running.step(ridge.rows, ridge.weights) for _ in range(200)]
        estimate = steps[-1]
        assert estimate is not None
        found[name] = rank_correlation(estimate.d[: ridge.n], truth[: ridge.n])

    assert found["penalty"] > 0.9
    assert abs(found["loss only"]) < 0.4

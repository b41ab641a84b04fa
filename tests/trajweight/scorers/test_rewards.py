"""The three ways to read rewards, each against its formula written out by hand."""

from __future__ import annotations

from statistics import fmean, pstdev

import numpy as np
import pytest

from tests.trajweight.scorers.pools import pool_of
from trajweight.errors import ConfigError
from trajweight.scorers import scorer
from trajweight.scorers.rewards import RewardFilter, RewardWeighted

TASKS = ["t", "t", "t", "t", "t", "u", "u", "v"]
REWARDS = [1.0, 5.0, None, 3.0, 2.0, -1.0, 7.0, 9.0]
SOURCES = ["a", "b", "b", "a", "c", "c", "a", "d"]
POOL = pool_of(["x"] * 8, task_id=TASKS, reward=REWARDS, source=SOURCES)


def z_by_hand(reward: float, others: list[float]) -> float:
    return (reward - fmean(others)) / pstdev(others)


IN_T, IN_U = [1.0, 5.0, 3.0, 2.0], [-1.0, 7.0]
Z = [
    *(z_by_hand(1.0, IN_T), z_by_hand(5.0, IN_T), None, z_by_hand(3.0, IN_T)),
    *(z_by_hand(2.0, IN_T), z_by_hand(-1.0, IN_U), z_by_hand(7.0, IN_U), 0.0),
]


def test_the_filter_keeps_the_better_half_of_each_task_and_what_is_not_known() -> None:
    found = scorer("reward-filter").score(POOL)

    kept = [False, True, True, True, False, False, True, True]
    assert found.scores.tolist() == found.weights.tolist() == [float(one) for one in kept]


def test_the_share_that_the_filter_keeps_can_be_chosen() -> None:
    found = RewardFilter(keep=0.75).score(POOL)

    assert found.weights.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # 1.5 rounded up


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_rwr_weighs_by_exponentials_of_standardised_rewards(beta) -> None:
    found = RewardWeighted(beta=beta).score(POOL)

    known = np.array([value or 0.0 for value in Z])
    assert found.scores == pytest.approx(known, abs=1e-12)
    assert found.weights == pytest.approx(np.exp(known / beta), rel=1e-12)


def test_a_source_is_as_good_as_the_mean_of_its_known_rows() -> None:
    found = scorer("source-reward").score(POOL)

    known = [value or 0.0 for value in Z]
    mean = {
        "a": fmean([known[0], known[3], known[6]]),
        "b": known[1],
        "c": fmean([known[4], known[5]]),
        "d": 0.0,
    }
    assert found.scores == pytest.approx([mean[source] for source in SOURCES], abs=1e-12)
    assert found.weights is None


def test_a_source_of_which_nothing_is_known_is_as_good_as_the_mean() -> None:
    pool = pool_of(["x"] * 3, reward=[0.0, 1.0, None], source=["a", "b", "c"])

    assert scorer("source-reward").score(pool).scores.tolist() == [-1.0, 1.0, 0.0]


def test_outcomes_stand_in_where_a_task_has_no_rewards() -> None:
    pool = pool_of(["x"] * 2, success=[True, False])

    assert scorer("reward-filter").score(pool).weights.tolist() == [1.0, 0.0]


def test_one_source_alone_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="all synthetic trajectories are of one source"):
        scorer("source-reward").score(pool_of(["x"] * 2, reward=[0.0, 1.0]))

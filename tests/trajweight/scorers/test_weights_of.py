from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from trajweight.errors import ConfigError, DataError
from trajweight.scorers.scorer import Scored, from_logs, weights_of

some_scores = st.lists(st.integers(-20, 20), min_size=1, max_size=30).map(
    lambda whole: np.array(whole, dtype=float)
)
targets = st.floats(0.05, 1.0)


def share(weights) -> float:
    """ESS/n."""
    return 1 / (1 + (np.std(weights) / np.mean(weights)) ** 2)


def normal_quantiles(scores) -> np.ndarray:
    """Of mid-ranks, counted one by one."""
    middles = [(np.sum(scores < one) + np.sum(scores <= one) + 1) / 2 for one in scores]
    return norm.ppf([(middle - 0.5) / len(scores) for middle in middles])


@settings(max_examples=60)
@given(scores=some_scores, target=targets)
def test_rankings_become_exponentials_of_normal_quantiles_at_the_target(scores, target) -> None:
    z = normal_quantiles(scores)
    z = z - z.max()
    n_best = np.sum(scores == scores.max())

    weights = weights_of(Scored(scores), target_ess=target)

    assert weights.mean() == pytest.approx(1.0, abs=1e-12)
    if n_best / len(scores) > target - 1e-3:  # no t goes so low: nothing for those below the best
        expected = (z == 0) / np.mean(z == 0)
        assert weights == pytest.approx(expected, abs=0.1)
        assert share(weights) >= target - 1e-9
    else:
        t = brentq(lambda t: share(np.exp(t * z)) - target, 0.0, 80 / -z.min(), xtol=1e-13)
        expected = np.exp(t * z)
        assert weights == pytest.approx(expected / expected.mean(), rel=1e-6, abs=1e-9)
        assert share(weights) == pytest.approx(target, abs=1e-9)


@given(scores=some_scores, target=targets)
def test_only_the_order_of_scores_counts(scores, target) -> None:
    one = weights_of(Scored(scores), target_ess=target)
    two = weights_of(Scored(np.exp(scores / 5) - 3), target_ess=target)

    assert one.tolist() == two.tolist()


@given(scores=some_scores, target=targets)
def test_a_higher_score_never_weighs_less_and_an_equal_one_the_same(scores, target) -> None:
    weights = weights_of(Scored(scores), target_ess=target)

    in_order = np.argsort(scores, kind="stable")
    rises = np.diff(weights[in_order])
    assert (rises >= 0).all()
    assert (rises[np.diff(scores[in_order]) == 0] == 0).all()


def test_all_rankings_without_ties_are_equally_concentrated() -> None:
    one, two = (
        weights_of(Scored(np.random.default_rng(seed).normal(size=50) ** 3), target_ess=0.4)
        for seed in (0, 1)
    )

    assert sorted(one) == pytest.approx(sorted(two), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_scores_give_ones(n) -> None:
    assert weights_of(Scored(np.full(n, 0.1)), target_ess=0.5).tolist() == [1.0] * n


def test_rows_below_a_crowd_of_best_ones_keep_a_weight_above_zero() -> None:
    weights = weights_of(Scored(np.array([1.0] * 8 + [0.0] * 2)), target_ess=0.5)

    assert weights[:8] == pytest.approx(1.25)
    assert 0 < np.float32(weights[8]) < 1e-20


def test_weights_of_a_method_that_meet_the_target_are_left_as_they_are() -> None:
    own = np.array([3.0, 1.0, 2.0, 2.0])

    weights = weights_of(Scored(-own, own), target_ess=0.5)

    assert weights == pytest.approx(own / 2, rel=1e-12)


@given(
    own=st.lists(st.floats(0.01, 100), min_size=2, max_size=20).map(np.array),
    target=st.floats(0.1, 0.99),
)
def test_weights_of_a_method_that_fall_below_the_target_are_tempered(own, target) -> None:
    weights = weights_of(Scored(np.zeros(len(own)), own), target_ess=target)

    power = 1.0
    if share(own) < target - 1e-9:
        power = brentq(lambda a: share(own**a) - target, 0.0, 1.0, xtol=1e-14)
    assert weights == pytest.approx(own**power / np.mean(own**power), rel=1e-5)


def test_where_zeros_keep_tempering_from_the_target_the_rest_is_mixed_in() -> None:
    own = np.array([5.0, 1.0, 0.0, 0.0])

    weights = weights_of(Scored(own, own), target_ess=0.8)

    # the two above zero become equal, then (1 - s) (2, 2, 0, 0) + s with 1 / (1 + (1 - s)^2) = 0.8
    assert weights == pytest.approx([1.5, 1.5, 0.5, 0.5], rel=1e-9)


@pytest.mark.parametrize("far", [1.0, 300.0, 5e3, 1e6])
def test_log_weights_however_far_apart_are_tempered_as_if_float64_had_no_end(far) -> None:
    logs = far * np.random.default_rng(2).normal(size=40)
    least = 0.6

    weights = weights_of(Scored(logs, from_logs(logs)), target_ess=least)

    below = logs - logs.max()
    power = 1.0
    if share(np.exp(below)) < least:
        power = brentq(lambda a: share(np.exp(a * below)) - least, 0.0, 1.0, xtol=1e-16)
    expected = np.exp(power * below)
    assert weights == pytest.approx(expected / expected.mean(), rel=1e-4)


def test_log_weights_that_float64_can_tell_apart_are_not_changed() -> None:
    assert from_logs(np.log([2.0, 8.0, 1e-200])) == pytest.approx([0.25, 1.0, 1.25e-201])
    assert from_logs(np.array([-4e9, -4e9])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused_and_named(bad) -> None:
    with pytest.raises(DataError, match="score 1 is"):
        weights_of(Scored(np.array([0.0, bad])), target_ess=0.5)


@pytest.mark.parametrize("target", [0.0, 1.5])
def test_a_target_that_is_no_share_is_refused(target) -> None:
    with pytest.raises(ConfigError, match="--target-ess"):
        weights_of(Scored(np.array([0.0, 1.0])), target_ess=target)

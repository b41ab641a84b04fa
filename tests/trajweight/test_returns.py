from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajweight.returns import (
    advantage_weights,
    filter_factors,
    return_factors,
    returns_of,
    standardised,
    successes,
    task_shares,
)

# Multiples of a quarter, so that shifts and scales are exact and ties stay ties.
VALUES = st.one_of(st.none(), st.integers(-40, 40).map(lambda quarters: quarters / 4))
ROWS = st.lists(st.tuples(VALUES, st.sampled_from("abc")), min_size=1, max_size=30)


def apart(rows) -> tuple[list[float | None], list[str]]:
    return [value for value, _ in rows], [task for _, task in rows]


@given(ROWS, st.integers(-9, 9), st.sampled_from([0.5, 2.0, 1024.0]))
def test_shift_and_scale_of_a_task_do_not_change_its_standardised_returns(rows, shift, scale):
    returns, tasks = apart(rows)
    moved = [
        value if value is None or task != "a" else scale * value + shift
        for value, task in zip(returns, tasks, strict=True)
    ]

    before, after = standardised(returns, tasks), standardised(moved, tasks)

    assert after == pytest.approx(before, abs=1e-9)


@given(ROWS)
def test_standardised_returns_have_mean_zero_and_spread_one_or_none(rows):
    returns, tasks = apart(rows)

    z = standardised(returns, tasks)

    assert [value is None for value in z] == [value is None for value in returns]
    for task in set(tasks):
        mine = torch.tensor(
            [x for x, t in zip(z, tasks, strict=True) if t == task and x is not None],
            dtype=torch.float64,
        )
        given_values = {x for x, t in rows if t == task and x is not None}
        if len(given_values) < 2:
            assert not mine.any()
        else:
            assert float(mine.mean()) == pytest.approx(0, abs=1e-12)
            assert float(mine.std(unbiased=False)) == pytest.approx(1)


def test_returns_at_the_ends_of_the_range_are_standardised_too() -> None:
    assert standardised([1e308, -1e308], "aa") == [1.0, -1.0]
    assert standardised([5e-324, -5e-324], "aa") == [1.0, -1.0]
    assert standardised([0.1 + 0.2, 0.3], "aa") == [0.0, 0.0]  # a difference of rounding


def test_outcomes_stand_in_for_rewards_where_a_task_has_none() -> None:
    found = returns_of([None, None, 0.3, None], [True, False, None, True], "aabb")

    assert found == [1.0, 0.0, 0.3, None]


def test_a_success_is_what_the_outcome_says_else_the_best_of_a_task_with_worse_ones() -> None:
    #        says so  says no   best   worse  no spread  alone  unknown
    returns = [0.1, 0.9, 0.7, 0.2, 3.0, 3.0, 5.0, None]
    outcomes = [True, False, None, None, None, None, None, None]

    found = successes(returns, outcomes, "aabbccda", threshold=None)

    assert found == [True, False, True, False, False, False, False, False]


def test_returns_that_are_only_ever_0_or_1_are_outcomes_even_alone_in_their_task() -> None:
    found = successes([1.0, 0.0, 1.0, 1.0, None], [None] * 5, "abccd", threshold=None)

    assert found == [True, False, True, True, False]


def test_a_threshold_decides_by_the_return_alone() -> None:
    found = successes([0.5, 0.4, None, 0.9], [None, True, True, False], "abcd", threshold=0.5)

    assert found == [True, False, False, True]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_shares_of_rows_that_count_alike_are_those_of_tasks_that_count_alike(tasks):
    shares = task_shares([1.0] * len(tasks), tasks)

    wanted = [1 / (len(set(tasks)) * tasks.count(task)) for task in tasks]
    assert torch.equal(shares, torch.tensor(wanted))


def test_advantage_weights_follow_the_formula_inside_each_task() -> None:
    tasks, z = "aaab", standardised([0.0, 1.0, 5.0, 2.0], "aaab")

    shares = task_shares(advantage_weights(z, beta=0.5, cap=20.0), tasks)

    mean, spread = 2.0, math.sqrt((4 + 1 + 9) / 3)
    parts = [min(math.exp((x - mean) / spread / 0.5), 20.0) for x in (0.0, 1.0, 5.0)]
    wanted = [*(part / sum(parts) / 2 for part in parts), 1 / 2]
    assert shares.tolist() == pytest.approx(wanted)


def test_advantage_weights_are_capped_and_unknown_returns_count_as_the_mean() -> None:
    assert advantage_weights([9.0, None, 0.0, -1.0], beta=1.0, cap=20.0) == pytest.approx(
        [20.0, 1.0, 1.0, math.exp(-1)]
    )
    assert advantage_weights([3.0, -3.0], beta=1e-9, cap=20.0) == pytest.approx([20.0, 0.0])


def test_a_task_drawn_twice_counts_twice() -> None:
    shares = task_shares([1.0, 1.0, 1.0], "aab", [2, 2, 0])

    assert shares.tolist() == [0.5, 0.5, 0.0]


def test_return_factors_are_those_of_reward_weighted_regression() -> None:
    found = return_factors([1.5, -0.5, None], beta=2.0)

    assert found == pytest.approx([math.exp(0.75), math.exp(-0.25), 1.0])
    assert all(0 < one < math.inf for one in return_factors([4.0, -4.0], beta=1e-9))


@given(ROWS, st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
def test_the_filter_keeps_what_too_few_others_of_the_task_beat(rows, keep):
    returns, tasks = apart(rows)

    factors = filter_factors(returns, tasks, keep=keep, floor=0.02)

    for value, task, factor in zip(returns, tasks, factors, strict=True):
        rivals = [x for x, t in rows if t == task and x is not None]
        is_kept = value is None or sum(x > value for x in rivals) < keep * len(rivals)
        assert factor == (1.0 if is_kept else 0.02)

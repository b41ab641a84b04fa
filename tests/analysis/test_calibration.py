from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.analysis.calibration import deciles

rows = st.lists(
    st.tuples(st.integers(0, 6).map(float), st.integers(0, 5).map(float), st.integers(0, 4)),
    min_size=1,
    max_size=60,
)


@given(rows)
def test_every_row_stands_in_the_tenth_of_its_average_rank(found_rows) -> None:
    weights, quality, tasks = (np.array(side) for side in zip(*found_rows, strict=True))
    n = len(found_rows)

    found = {one.decile: one for one in deciles(weights, quality, tasks)}

    ranks = stats.rankdata(weights)
    tenths = [min(int((rank - 0.5) * 10 / n + 1e-9), 9) + 1 for rank in ranks]
    assert sorted(found) == sorted(set(tenths))
    for tenth, one in found.items():
        mine = np.array(tenths) == tenth
        assert (one.n, one.n_tasks) == (mine.sum(), len(set(tasks[mine])))
        assert (one.weight_low, one.weight_high) == (weights[mine].min(), weights[mine].max())
        assert one.mean_quality == pytest.approx(quality[mine].mean())
        assert one.mean_weight == pytest.approx(weights[mine].mean())


def test_rows_of_one_weight_are_never_parted() -> None:
    weights = np.array([0.0] * 55 + list(range(1, 46)), dtype=float)

    found = deciles(weights, weights, np.arange(100))

    assert (found[0].decile, found[0].n, found[0].weight_high) == (3, 55, 0.0)
    assert sum(one.n for one in found) == 100


def test_a_share_of_independent_rows_has_the_wilson_interval_of_scipy() -> None:
    # 2000 tasks in a tenth: Student's quantile is the normal one but for 0.06 percent
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=20_000)
    quality = (rng.uniform(size=20_000) < weights).astype(float)

    for one in deciles(weights, quality, np.arange(20_000)):
        wanted = stats.binomtest(round(one.mean_quality * one.n), one.n).proportion_ci(
            method="wilson"
        )
        assert (one.interval.low, one.interval.high) == pytest.approx(wanted, abs=2e-5)


def test_a_share_of_all_or_nothing_counts_as_many_rows_as_tasks() -> None:
    weights, tasks = np.zeros(60), np.arange(60) % 12

    (found,) = deciles(weights, np.ones(60), tasks)

    far = stats.t.ppf(0.975, 11) ** 2 / 12  # Wilson's lower end for 12 of 12
    assert (found.interval.low, found.interval.high) == pytest.approx((1 / (1 + far), 1.0))


def test_a_graded_mean_has_students_interval_of_the_sums_by_task() -> None:
    rng = np.random.default_rng(1)
    tasks = np.repeat(np.arange(30), 5)
    quality = rng.normal(size=30)[tasks] + rng.normal(size=150)

    (found,) = deciles(np.ones(150), quality, tasks)

    # tasks of one size: the mean of their means
    means = quality.reshape(30, 5).mean(axis=1)
    wanted = stats.t.interval(0.95, 29, means.mean(), means.std(ddof=1) / np.sqrt(30))
    assert (found.interval.low, found.interval.high) == pytest.approx(wanted)


def test_where_nothing_varies_or_one_task_stands_alone_there_is_no_interval() -> None:
    (one_task,) = deciles(np.ones(5), np.array([0.0, 1, 1, 0, 1]), np.zeros(5, dtype=int))
    (graded,) = deciles(np.ones(5), np.full(5, 0.3), np.arange(5))

    assert one_task.interval is graded.interval is None
    assert deciles(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)) == ()


@pytest.mark.parametrize("is_share", [True, False])
def test_intervals_hold_the_truth_as_often_as_they_say(is_share) -> None:
    """300 tables of 60 tasks, all tenths together: 3000 intervals, though not independent."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(300):
        tasks = np.repeat(np.arange(60), rng.integers(1, 10, size=60))
        weights = rng.uniform(size=len(tasks))
        # a normal value of which any two rows of a task share three tenths of the variance
        value = np.sqrt(0.3) * rng.normal(size=60)[tasks] + np.sqrt(0.7) * rng.normal(
            size=len(tasks)
        )
        quality = (value < -0.5).astype(float) if is_share else value + weights
        for one in deciles(weights, quality, tasks):
            truth = stats.norm.cdf(-0.5) if is_share else one.mean_weight
            held.append(one.interval.low <= truth <= one.interval.high)

    assert 0.93 <= np.mean(held) <= 0.985

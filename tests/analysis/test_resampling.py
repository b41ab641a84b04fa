from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trajweight.analysis.resampling import MIN_TASKS, bootstrap_by_task


def mean_of(values):
    """A mean as a statistic of counted rows."""
    return lambda counts: (counts @ values / counts.sum(axis=1))[:, None]


def interval_of_mean(values, tasks, *, far: float = 1e6, **options):
    """Between ends so far away that the scale is straight, so that closed forms hold."""
    drawing = bootstrap_by_task(tasks, **options)
    drawn = drawing.replicates(mean_of(values[drawing.rows]))[:, 0]
    return drawing.interval(float(values.mean()), drawn, least=-far, most=far)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_a_resample_has_as_many_tasks_as_there_are_and_all_rows_of_each(rng) -> None:
    tasks = rng.integers(5, 40, size=300)
    drawing = bootstrap_by_task(tasks, seed=3)
    seen: list[np.ndarray] = []

    def remember(counts):
        seen.append(counts)
        return counts.sum(axis=1, keepdims=True)

    drawing.replicates(remember)

    assert drawing.counts.shape == (400, len(set(tasks)))
    assert (drawing.counts.sum(axis=1) == len(set(tasks))).all()
    for counts in seen[0]:
        for task in set(tasks):
            assert len(set(counts[tasks == task])) == 1


@pytest.mark.parametrize("n_tasks", [12, 60])
def test_the_interval_of_a_mean_is_students_over_tasks(rng, n_tasks) -> None:
    # tasks of one size, so the mean of all rows is the mean of the tasks' means
    means = rng.normal(size=n_tasks)
    tasks = np.repeat(np.arange(n_tasks), 4)

    found = interval_of_mean(np.repeat(means, 4), tasks, replicates=20_000)

    error = means.std(ddof=1) / np.sqrt(n_tasks)
    wanted = stats.t.interval(0.95, n_tasks - 1, means.mean(), error)
    # 20 000 draws know a deviation to half a percent
    assert (found.low, found.high) == pytest.approx(wanted, abs=0.01 * (wanted[1] - wanted[0]))


def test_rows_of_one_task_do_not_count_as_independent(rng) -> None:
    tasks = np.repeat(np.arange(30), 20)
    values = np.repeat(rng.normal(size=30), 20) + 0.1 * rng.normal(size=600)

    by_task = interval_of_mean(values, tasks)
    by_row = interval_of_mean(values, np.arange(600))

    assert by_task.high - by_task.low > 3 * (by_row.high - by_row.low)


def test_a_part_of_the_tasks_gives_the_width_of_the_whole(rng) -> None:
    tasks = np.repeat(np.arange(4000), 2)
    values = np.repeat(rng.normal(size=4000), 2) + rng.normal(size=8000)

    whole = interval_of_mean(values, tasks, replicates=1000)
    part = interval_of_mean(values, tasks, replicates=1000, max_rows=1000)
    about = bootstrap_by_task(tasks, max_rows=1000).about

    assert (about.n_rows, about.n_tasks, about.n_rows_used, about.n_tasks_used) == (
        *(8000, 4000),
        *(1000, 500),
    )
    assert part.high - part.low == pytest.approx(whole.high - whole.low, rel=0.15)
    assert (part.high + part.low) / 2 == pytest.approx(values.mean(), abs=1e-6)


def test_rows_of_huge_tasks_are_thinned_and_no_task_is_lost(rng) -> None:
    tasks = np.repeat(np.arange(20), 500)

    drawing = bootstrap_by_task(tasks, max_rows=1000)

    assert np.bincount(tasks[drawing.rows]).tolist() == [50] * 20
    assert len(set(drawing.rows)) == 1000


def test_the_seed_alone_decides(rng) -> None:
    values, tasks = rng.normal(size=200), rng.integers(40, size=200)
    found = [interval_of_mean(values, tasks, seed=seed, max_rows=80) for seed in (1, 1, 2)]

    assert found[0] == found[1] != found[2]


def test_neither_the_order_of_rows_nor_the_names_of_tasks_matter(rng) -> None:
    values, tasks = rng.normal(size=200), rng.integers(40, size=200)
    shuffle = rng.permutation(200)

    plain = interval_of_mean(values, tasks)
    moved = interval_of_mean(values[shuffle], 7 * tasks[shuffle] + 3)

    assert (moved.low, moved.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_an_interval_stays_inside_of_what_is_possible(rng) -> None:
    values = (rng.uniform(size=40) < 0.95).astype(float)

    drawing = bootstrap_by_task(np.arange(40))
    found = drawing.interval(
        values.mean(), drawing.replicates(mean_of(values))[:, 0], least=0.0, most=1.0
    )

    assert 0.0 < found.low < values.mean() < found.high <= 1.0
    assert values.mean() - found.low > found.high - values.mean()


def test_an_interval_that_would_only_pretend_is_not_given(rng) -> None:
    values = rng.normal(size=40)

    few = interval_of_mean(values, np.arange(40) % (MIN_TASKS - 1))
    same = interval_of_mean(np.ones(40), np.arange(40))
    drawing = bootstrap_by_task(np.arange(40))
    drawn = drawing.replicates(mean_of(values))[:, 0]
    drawn[:30] = np.nan

    assert few is None
    assert same is None
    assert drawing.interval(0.0, drawn, least=-9.0, most=9.0) is None
    assert drawing.interval(None, drawn, least=-9.0, most=9.0) is None
    assert interval_of_mean(values, np.arange(40) % MIN_TASKS) is not None


@pytest.mark.slow
@pytest.mark.parametrize(("n_tasks", "options"), [(12, {}), (40, {}), (600, {"max_rows": 400})])
def test_intervals_hold_the_truth_as_often_as_they_say(rng, n_tasks, options) -> None:
    """400 tables of rows that share tasks; the share has a standard error of 0.011."""
    held = []
    for seed in range(400):
        sizes = rng.integers(1, 6, size=n_tasks)
        tasks = np.repeat(np.arange(n_tasks), sizes)
        chance = 1 / (1 + np.exp(-rng.normal(size=n_tasks)))  # mean one half
        values = (rng.uniform(size=len(tasks)) < chance[tasks]).astype(float)
        drawing = bootstrap_by_task(tasks, seed=seed, replicates=300, **options)
        drawn = drawing.replicates(mean_of(values[drawing.rows]))[:, 0]
        found = drawing.interval(values.mean(), drawn, least=0.0, most=1.0)
        held.append(found.low <= 0.5 <= found.high)

    assert 0.92 <= np.mean(held) <= 0.98

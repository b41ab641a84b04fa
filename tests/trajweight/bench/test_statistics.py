from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.bench.statistics import (
    Run,
    compare,
    grid_mean,
    holm,
    interquartile_mean,
    level,
    minimal_detectable_effect,
    paired,
    resamples,
    sign_flip_test,
)


def pairs_of(first, second=None, tasks=None):
    """Paired runs from grids of settings times seeds; NaN is a run that was not made."""
    first = np.atleast_2d(first)
    second = np.zeros_like(first) if second is None else np.atleast_2d(second)
    sides = [
        {
            (f"setting {s}", n): Run(
                float(grid[s, n]), {} if tasks is None or grid is second else dict(tasks[s][n])
            )
            for s, n in np.argwhere(np.isfinite(grid))
        }
        for grid in (first, second)
    ]
    if tasks is not None:
        sides[1] = {
            place: Run(0.0, dict.fromkeys(run.by_task, 0.0)) for place, run in sides[0].items()
        }
    return paired(*sides)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_runs_are_paired_by_setting_and_seed_and_the_others_counted() -> None:
    one = {("a", 1): Run(5.0), ("a", 2): Run(6.0), ("b", 1): Run(7.0)}
    two = {("a", 2): Run(1.0), ("b", 1): Run(3.0), ("c", 9): Run(0.0)}

    found = paired(one, two)

    assert (found.settings, found.seeds, found.n_unpaired) == (("a", "b"), (1, 2), 2)
    np.testing.assert_array_equal(found.differences, [[np.nan, 5.0], [4.0, np.nan]])


def test_the_interval_of_a_mean_is_students_over_the_means_of_seeds(rng) -> None:
    grid = rng.normal(size=(3, 6)) + rng.normal(size=6)

    found = compare(pairs_of(grid), replicates=40_000)

    wanted = stats.ttest_1samp(grid.mean(axis=0), 0.0).confidence_interval()
    assert found.mean == pytest.approx(grid.mean())
    # 40 000 draws know a deviation to 0.4 percent
    assert (found.interval.low, found.interval.high) == pytest.approx(wanted, rel=0.02)


def test_seeds_that_move_all_settings_together_do_not_count_once_a_setting(rng) -> None:
    together = np.tile(rng.normal(size=8), (20, 1))
    apart = rng.permuted(together, axis=1)

    widths = [
        (lambda found: found.high - found.low)(compare(pairs_of(grid)).interval)
        for grid in (together, apart)
    ]

    assert widths[0] > 3 * widths[1]


def test_settings_drawn_again_make_the_interval_wider_where_settings_differ(rng) -> None:
    grid = 3.0 * rng.normal(size=(12, 1)) + rng.normal(size=(12, 12))

    fixed, drawn = (
        compare(pairs_of(grid), settings=way).interval for way in ("fixed", "resampled")
    )

    error = grid.mean(axis=1).std(ddof=1) / np.sqrt(12)
    assert drawn.high - drawn.low > 5 * (fixed.high - fixed.low)
    # the part of the settings, and a little for the seeds
    assert drawn.high - drawn.low == pytest.approx(2 * stats.t.ppf(0.975, 11) * error, rel=0.1)
    assert drawn.method != fixed.method


def test_tasks_are_drawn_inside_of_each_run(rng) -> None:
    # Seeds do not differ at all, so that all of the spread is that of the tasks.
    tasks = rng.normal(size=40)
    tasks -= tasks.mean()
    by_task = [[{str(at): value for at, value in enumerate(tasks)} for _ in range(5)]]

    found = resamples(pairs_of(np.zeros((1, 5)), tasks=by_task), replicates=20_000)

    assert grid_mean(found.differences).std() == pytest.approx(
        tasks.std() / np.sqrt(40 * 5), rel=0.03
    )


def test_a_slow_twin_draws_seeds_and_then_tasks_with_the_same_spread(rng) -> None:
    grid = rng.normal(size=(2, 4))
    tasks = rng.normal(scale=2.0, size=(2, 4, 9))
    tasks += (grid - tasks.mean(axis=2))[:, :, None]
    by_task = [[{str(t): float(v) for t, v in enumerate(cell)} for cell in row] for row in tasks]

    found = grid_mean(resamples(pairs_of(grid, tasks=by_task), replicates=20_000).differences)

    twin = []
    for _ in range(4000):
        seeds = rng.integers(4, size=4)
        runs = [rng.choice(tasks[s, n], size=9).mean() for s in range(2) for n in seeds]
        twin.append(np.mean(runs))
    assert found.mean() == pytest.approx(np.mean(twin), abs=0.05)
    assert found.std() == pytest.approx(np.std(twin), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [5, 10])
def test_intervals_hold_the_truth_about_as_often_as_they_say(rng, n_seeds) -> None:
    held = 0
    for turn in range(300):
        grid = 0.3 + rng.normal(size=(3, n_seeds)) + rng.normal(size=n_seeds)
        found = compare(pairs_of(grid), replicates=200, seed=turn).interval
        held += found.low <= 0.3 <= found.high
    # 95 percent, and three standard errors of 300 trials
    assert 0.91 <= held / 300 <= 0.99


def test_a_run_that_is_missing_weakens_nothing_but_its_own_setting() -> None:
    grid = np.array([[1.0, 1.0, 1.0, np.nan], [3.0, 3.0, 3.0, 3.0]])

    found = compare(pairs_of(grid))

    assert found.mean == 2.0
    assert (found.interval.low, found.interval.high) == (2.0, 2.0)
    assert found.n_runs == 7


def test_one_seed_has_no_interval_and_no_evidence() -> None:
    found = compare(pairs_of(np.array([[4.0], [5.0]])))

    assert found.mean == 4.5
    assert found.interval is found.iqm_interval is found.detectable is None
    assert found.p_value == 1.0


def test_methods_that_share_no_run_cannot_be_compared() -> None:
    assert compare(paired({("a", 1): Run(1.0)}, {("a", 2): Run(1.0)})) is None


def test_the_same_seed_gives_the_same_interval_and_another_hardly_another(rng) -> None:
    pairs = pairs_of(rng.normal(size=(2, 7)))

    one, same, other = (compare(pairs, seed=seed).interval for seed in (1, 1, 2))

    assert one == same
    assert one != other
    assert one.low == pytest.approx(other.low, abs=0.1 * (one.high - one.low))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_the_interquartile_mean_is_scipys_trimmed_mean(values) -> None:
    grid = np.array([[*values, np.nan]])

    assert interquartile_mean(grid) == pytest.approx(stats.trim_mean(values, 0.25))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_improvement_over_any_two_seeds_is_mann_whitneys_share(values) -> None:
    first, second = np.array(values, dtype=float).T

    found = compare(pairs_of(first, second), replicates=50)

    wanted = stats.mannwhitneyu(first, second, method="asymptotic").statistic
    assert found.improvement_any == pytest.approx(wanted / len(first) ** 2)
    paired_wanted = np.mean((np.sign(first - second) + 1) / 2)
    assert found.improvement == pytest.approx(paired_wanted)


def test_improvement_on_resamples_is_that_of_the_seeds_and_settings_drawn(rng) -> None:
    from trajweight.bench.statistics import _any_improvement

    first, second = rng.integers(0, 4, size=(2, 3, 5)).astype(float)
    first[1, 2] = np.nan
    pairs = pairs_of(first, second)
    drawn = resamples(pairs, settings="resampled", replicates=20)

    _, found = _any_improvement(pairs, drawn)

    def share(s, seeds):
        won = [
            (np.sign(pairs.first[s, i] - pairs.second[s, j]) + 1) / 2 for i in seeds for j in seeds
        ]
        return np.nanmean(won) if np.isfinite(won).any() else share(s, range(5))

    for line in range(20):
        shares = [share(s, drawn.seeds[line]) for s in drawn.settings[line]]
        assert found[line] == pytest.approx(np.mean(shares))


@given(st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=8))
def test_flipping_signs_is_scipys_paired_permutation_test(values) -> None:
    wanted = stats.permutation_test(
        (np.array(values), np.zeros(len(values))),
        lambda one, two, axis: (one - two).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue

    assert sign_flip_test(np.array([values])) == pytest.approx(wanted)


def test_a_seed_is_flipped_in_all_its_settings_at_once(rng) -> None:
    grid = rng.normal(size=(3, 6)) + 0.5
    grid[2, 4] = np.nan

    means = [
        abs(np.mean([np.nanmean(row * np.array(signs)) for row in grid]))
        for signs in itertools.product([1, -1], repeat=6)
    ]

    wanted = np.mean([mean >= means[0] - 1e-12 for mean in means])
    assert sign_flip_test(grid) == pytest.approx(wanted)


def test_random_flips_come_near_to_all_flips_and_are_never_sure(rng) -> None:
    values = rng.normal(size=(1, 20)) + 0.4

    found = sign_flip_test(values, flips=20_000)

    assert found == pytest.approx(stats.ttest_1samp(values[0], 0.0).pvalue, abs=0.02)
    assert sign_flip_test(np.full((1, 20), 3.0), flips=999) >= 1 / 1000


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_adjusted_values_reject_what_the_stepwise_rule_rejects(p_values) -> None:
    adjusted = holm(p_values)

    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for step, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[at] * (len(p_values) - step) > alpha:
                break
            rejected.add(at)
        assert rejected == {at for at, p in enumerate(adjusted) if p <= alpha}


def test_no_p_values_are_a_family_too() -> None:
    assert holm([]) == []


def test_the_detectable_effect_is_found_in_eighty_of_a_hundred_trials(rng) -> None:
    effect = minimal_detectable_effect(2.0, 8)

    values = effect + 2.0 * rng.normal(size=(20_000, 8))
    found = (stats.ttest_1samp(values, 0.0, axis=1).pvalue < 0.05).mean()

    assert found == pytest.approx(0.8, abs=0.01)


def test_for_many_pairs_the_detectable_effect_is_the_normal_one() -> None:
    normal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 3.0 / np.sqrt(5000)

    assert minimal_detectable_effect(3.0, 5000) == pytest.approx(normal, rel=1e-3)
    assert 5000 * (normal / 3.0) ** 2 == pytest.approx(7.85, abs=0.01)


def test_a_method_by_itself_has_its_mean_and_the_interval_of_it() -> None:
    runs = {("a", seed): Run(float(seed)) for seed in range(5)}

    found = level(runs, replicates=20_000)

    wanted = stats.ttest_1samp(np.arange(5.0), 0.0).confidence_interval()
    assert (found.mean, found.iqm, found.n_runs) == (2.0, 2.0, 5)
    assert (found.interval.low, found.interval.high) == pytest.approx(wanted, abs=0.03)
    assert level({}) is None

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajweight.analysis.shifts import feature_shifts, largest_gaps, mean_differences


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_largest_gap_is_the_kolmogorov_smirnov_statistic_of_scipy(rng) -> None:
    x, y = rng.normal(size=50), rng.normal(0.5, 2, size=31)
    x[:9], y[:4] = 0.25, 0.25  # ties

    found = largest_gaps(x, np.full((50, 1), 1 / 50), y)

    assert found[0] == pytest.approx(stats.ks_2samp(x, y).statistic, abs=1e-12)


def test_whole_weights_are_repeated_rows(rng) -> None:
    x, y, times = rng.integers(0, 9, size=20), rng.integers(3, 12, size=15), rng.integers(0, 4, 20)
    repeated, shares = np.repeat(x, times), (times / times.sum())[:, None]

    gap = largest_gaps(x.astype(float), shares, y.astype(float))
    difference = mean_differences(x.astype(float), shares, y.astype(float))

    assert gap[0] == pytest.approx(stats.ks_2samp(repeated, y).statistic, abs=1e-12)
    yardstick = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    assert difference[0] == pytest.approx((repeated.mean() - y.mean()) / yardstick)


def test_for_sets_of_one_size_the_mean_difference_is_students_t(rng) -> None:
    x, y = rng.normal(size=40), rng.normal(0.7, 1.5, size=40)

    found = mean_differences(x, np.full((40, 1), 1 / 40), y)

    assert found[0] * np.sqrt(20) == pytest.approx(stats.ttest_ind(x, y).statistic)


def tables(rng, n=80, m=50) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Half of the synthetic rows have the turns of the real ones, half have three more."""
    odd = np.arange(n) % 2 == 1
    synthetic = pl.DataFrame(
        {
            "weight": np.where(odd, 0.2, 1.8),
            "n_turns": rng.integers(4, 9, size=n) + 3 * odd,
            "n_tokens": rng.integers(50, 900, size=n),
            "n_tool_calls": np.zeros(n, np.int64),
            "reward": [None if i % 3 else float(i % 2) for i in range(n)],
        }
    )
    real = pl.DataFrame(
        {
            "n_turns": rng.integers(4, 9, size=m),
            "n_tokens": rng.integers(50, 900, size=m),
            "n_tool_calls": np.zeros(m, np.int64),
            "reward": [float("nan"), *(0.5 for _ in range(m - 1))],
        }
    )
    return synthetic, real


def test_weights_that_undo_a_shift_are_seen_in_that_feature_alone(rng) -> None:
    found = feature_shifts(*tables(rng))

    by_name = {one.feature: one for one in found.measured}
    assert list(by_name) == ["n_turns", "n_tokens", "reward"]
    assert by_name["n_turns"].mean_difference.verdict == "nearer"
    assert by_name["n_turns"].largest_gap.verdict == "nearer"
    assert by_name["n_tokens"].mean_difference.verdict == "noise"
    assert found.not_measured == {
        "n_chars": "no such column",
        "n_tool_calls": "it is the same in all rows",
    }
    assert json.loads(json.dumps(found.as_dict()))["measured"][0]["feature"] == "n_turns"


def test_fewer_turns_than_real_are_as_far_away_as_more(rng) -> None:
    """Weights that raise a mean that lies too low bring it nearer; lower they push it away."""
    synthetic = pl.DataFrame({"n_turns": np.repeat([2, 6], 30)})
    real = pl.DataFrame({"n_turns": rng.integers(5, 9, size=40)})

    for heavy, verdict in (([0.2, 1.8], "nearer"), ([1.8, 0.2], "further")):
        weighted = synthetic.with_columns(weight=np.repeat(heavy, 30))
        (shift,) = feature_shifts(weighted, real, features=["n_turns"]).measured
        assert shift.mean_difference.before < 0
        assert shift.mean_difference.verdict == verdict


def test_rows_without_a_feature_do_not_count_for_it(rng) -> None:
    synthetic, real = tables(rng)

    reward = feature_shifts(synthetic, real).measured[-1]

    kept = synthetic.filter(pl.col("reward").is_not_null())
    assert (reward.n_synthetic, reward.n_real) == (kept.height, real.height - 1)
    mean = (kept["weight"] * kept["reward"]).sum() / kept["weight"].sum()
    yardstick = np.sqrt(kept["reward"].to_numpy().var(ddof=1) / 2)  # the real ones are all the same
    assert reward.mean_difference.after == pytest.approx((mean - 0.5) / yardstick)


def test_the_yardstick_does_not_move_with_the_weights(rng) -> None:
    synthetic, real = tables(rng)

    turns = feature_shifts(synthetic, real).measured[0].mean_difference

    w, x = synthetic["weight"].to_numpy(), synthetic["n_turns"].to_numpy()
    y = real["n_turns"].to_numpy()
    yardstick = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    assert turns.before == pytest.approx((x.mean() - y.mean()) / yardstick)
    assert turns.after == pytest.approx(((w * x).sum() / w.sum() - y.mean()) / yardstick)


def test_two_different_constants_lie_finitely_far_apart() -> None:
    found = mean_differences(np.ones(4), np.full((4, 1), 0.25), np.zeros(4))

    assert found[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("weights", "rewards", "why"),
    [
        ([1.0, 1.0], [None, 1.0], "1 synthetic rows have it; it takes two"),
        ([0.0, 0.0, 1.0], [0.0, 1.0, None], "all synthetic rows that have it weigh nothing"),
    ],
)
def test_what_cannot_be_measured_says_why(weights, rewards, why) -> None:
    synthetic = pl.DataFrame({"weight": weights, "reward": rewards})
    real = pl.DataFrame({"reward": [0.0, 1.0]})

    assert feature_shifts(synthetic, real, features=["reward"]).not_measured == {"reward": why}


def test_many_rows_are_subsampled_and_the_result_says_so(rng) -> None:
    synthetic, real = tables(rng, n=500, m=300)

    once, again, other = (
        feature_shifts(synthetic, real, features=["n_tokens"], max_rows=60, seed=seed).measured[0]
        for seed in (1, 1, 2)
    )

    assert (once.n_synthetic, once.n_real) == (60, 60)
    assert once == again != other


def test_a_shift_of_tasks_is_judged_by_tasks_where_asked(rng) -> None:
    tasks = np.repeat(np.arange(8), 10)
    turns, weights = rng.integers(2, 20, size=8)[tasks], rng.exponential(size=8)[tasks]
    synthetic = pl.DataFrame({"weight": weights, "n_turns": turns})
    real = pl.DataFrame({"n_turns": rng.integers(2, 20, size=40)})

    by_row, by_task = (
        feature_shifts(synthetic, real, features=["n_turns"], groups=groups).measured[0]
        for groups in (None, tasks)
    )

    width = {
        name: one.mean_difference.null_high - one.mean_difference.null_low
        for name, one in (("row", by_row), ("task", by_task))
    }
    assert width["task"] > 2 * width["row"]

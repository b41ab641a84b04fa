from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajweight.analysis.agreement import agreement, size_of


def weighed(a: np.ndarray, b: np.ndarray, *, n_tasks: int = 50) -> pl.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(a == b, 0.0, np.log(b) - np.log(a))
    tasks = [f"t{i % n_tasks}" for i in range(len(a))]
    return pl.DataFrame({"weight_a": a, "weight_b": b, "change": change, "task_id_a": tasks})


def noisy(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    return np.exp(scores), np.exp(scores + noise * rng.normal(size=n))


def test_spearman_is_that_of_scipy_with_ties() -> None:
    a, b = (np.round(side, 1) for side in noisy(300, 0.8))

    found = agreement(weighed(a, b)).spearman

    assert found.value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high


def test_the_interval_is_drawn_by_the_tasks_of_the_first_run() -> None:
    table = weighed(*noisy(300, 0.8), n_tasks=30)
    table = table.with_columns(task_id_b=pl.lit("one task alone"))

    about = agreement(table, seed=3).spearman.resampling

    assert about is not None
    assert (about.n_rows, about.n_tasks, about.seed) == (300, 30, 3)


def test_the_interval_holds_the_true_correlation_about_as_often_as_it_says() -> None:
    noise = 1.0  # of normal scores r = 1 / sqrt(2), so Spearman is 6 / pi asin(r / 2)
    truth = 6.0 / np.pi * np.arcsin(1.0 / np.sqrt(1.0 + noise**2) / 2.0)

    held = 0
    for seed in range(60):
        interval = agreement(weighed(*noisy(200, noise, seed), n_tasks=200)).spearman.interval
        assert interval is not None
        held += interval.low <= truth <= interval.high

    assert held >= 52  # of 60; with a chance of 95 % each, fewer come about once in 300 times


def test_half_of_the_rows_moved_by_the_median_or_more_up_or_down() -> None:
    a = np.ones(5)
    b = np.array([1.0, np.e, 1.0 / np.e**2, np.e**3, 0.0])

    found = agreement(weighed(a, b))

    assert found.median_log_change == pytest.approx(2.0)
    assert (found.n, found.n_same) == (5, 1)


def test_where_most_went_to_zero_there_is_no_median() -> None:
    found = agreement(weighed(np.ones(3), np.array([0.0, 0.0, 3.0])))

    assert found.median_log_change is None


@pytest.mark.parametrize(
    ("a", "b"),
    [([], []), ([1.0, 2.0], [2.0, 1.0]), ([1.0, 1.0, 1.0], [0.5, 1.0, 1.5])],
    ids=["none", "two", "constant"],
)
def test_without_two_orders_there_is_no_correlation(a, b) -> None:
    found = agreement(weighed(np.array(a), np.array(b))).spearman

    assert (found.value, found.interval, found.fisher) == (None, None, None)


def test_sizes_count_training_rows_with_and_without_the_real_ones() -> None:
    rows: list[tuple[str, str, float | None]]
    rows = [("train", "synthetic", 1.5), ("train", "synthetic", 0.5), ("train", "real", 1.0)]
    rows += [("dev", "real", None), ("excluded", "synthetic", None)]
    schema = {"split": pl.String, "origin": pl.String, "weight": pl.Float64}
    table = pl.DataFrame(rows, schema=schema, orient="row")

    found = size_of(table)

    assert found.synthetic.ess == pytest.approx(4.0 / 2.5)
    assert found.training.ess == pytest.approx(9.0 / 3.5)
    assert (found.synthetic.n, found.training.n, found.real_weight) == (2, 3, 1.0)
    assert size_of(table.filter(pl.col("origin") != "real")).real_weight is None

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajweight.analysis import associations as module
from trajweight.analysis.associations import associations
from trajweight.analysis.correlations import fisher_interval


def world(rng, n_tasks: int, *, together: float = 0.5) -> pl.DataFrame:
    """Rows in tasks; the weight goes with length, and with turns only because length does."""
    task = np.repeat(np.arange(n_tasks), rng.integers(1, 7, size=n_tasks))

    def noise():
        """Normal, with this correlation between two rows of one task."""
        of_task, of_row = rng.normal(size=n_tasks)[task], rng.normal(size=len(task))
        return np.sqrt(together) * of_task + np.sqrt(1 - together) * of_row

    length = noise()
    return pl.DataFrame(
        {
            "weight": np.exp(0.6 * length + 0.8 * noise()),
            "n_tokens": np.round(np.exp(length + 5)),
            "n_turns": 0.6 * length + 0.8 * noise(),
            "base_nll": noise(),
            "task_id": [f"task {one}" for one in task],
        }
    )


COLUMNS = ("n_tokens", "n_turns", "base_nll")


@pytest.fixture
def table() -> pl.DataFrame:
    return world(np.random.default_rng(1), 60)


def test_all_three_coefficients_are_those_of_scipy(table) -> None:
    weight = table["weight"].to_numpy()

    found = associations(table, COLUMNS)

    for one in found:
        values = table[one.column].to_numpy()
        assert one.n == table.height
        assert one.spearman.value == pytest.approx(stats.spearmanr(weight, values).statistic)
        assert one.kendall.value == pytest.approx(stats.kendalltau(weight, values).statistic)
    ranks = [stats.rankdata(table[name]) for name in ("weight", "n_turns", "n_tokens")]
    left = [side - np.polyval(np.polyfit(ranks[2], side, 1), ranks[2]) for side in ranks[:2]]
    turns = found[1].partial
    assert found[1].given == "n_tokens"
    assert turns.value == pytest.approx(stats.pearsonr(*left).statistic)
    assert turns.fisher == fisher_interval(turns.value, table.height, n_given=1)
    assert found[0].given is None
    assert found[0].partial is None


def test_intervals_surround_their_value_and_rows_of_a_task_widen_them() -> None:
    table = world(np.random.default_rng(1), 60, together=0.9)
    by_task = associations(table, COLUMNS)
    by_row = associations(table.drop("task_id"), COLUMNS)

    for one, other in zip(by_task, by_row, strict=True):
        for mine, alone in ((one.spearman, other.spearman), (one.kendall, other.kendall)):
            assert mine.interval.low < mine.value < mine.interval.high
            assert mine.value == alone.value
            assert mine.resampling.n_tasks == 60
            assert alone.resampling.n_tasks == table.height
    assert by_task[0].spearman.interval.high - by_task[0].spearman.interval.low > 1.3 * (
        by_row[0].spearman.interval.high - by_row[0].spearman.interval.low
    )
    alone = by_row[2].spearman  # of independent rows both ways of finding an interval agree
    ends = (alone.interval.low, alone.interval.high)
    assert ends == pytest.approx((alone.fisher.low, alone.fisher.high), abs=0.06)


def test_rows_without_a_number_do_not_count(table) -> None:
    gaps = table.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(None)
        .otherwise(pl.col("n_turns"))
        .alias("n_turns"),
        pl.when(pl.int_range(pl.len()) % 5 == 0)
        .then(float("nan"))
        .otherwise(pl.col("n_tokens"))
        .alias("n_tokens"),
    )
    whole = gaps.filter(pl.col("n_turns").is_not_null())
    both = whole.filter(pl.col("n_tokens").is_not_nan())

    (found,) = associations(gaps, ["n_turns"])

    assert found.n == whole.height
    assert found.spearman == associations(whole, ["n_turns"])[0].spearman
    assert found.partial == associations(both, ["n_turns"])[0].partial


def test_what_cannot_be_said_is_none(table) -> None:
    dull = table.with_columns(
        n_turns=pl.lit(3), n_tokens=pl.lit(None, dtype=pl.Int64), base_nll=pl.col("weight") * 2
    )

    turns, tokens, same = associations(dull, ["n_turns", "n_tokens", "base_nll"])

    assert turns.spearman.value is turns.kendall.value is tokens.spearman.value is None
    assert tokens.spearman.interval is None
    assert tokens.n == 0
    assert same.spearman.value == pytest.approx(1.0)
    assert same.spearman.fisher is same.spearman.interval is None
    assert same.partial.value is None
    assert associations(table.head(2), COLUMNS)[0].spearman.value is None
    assert associations(table.drop("n_tokens"), ["n_turns"])[0].partial is None
    json.dumps([one.as_dict() for one in (turns, tokens, same)], allow_nan=False)


def test_with_few_tasks_only_fishers_interval_is_left(table) -> None:
    few = table.with_columns(task_id=pl.int_range(pl.len()) % 5)

    (found,) = associations(few, ["n_turns"])

    assert found.spearman.interval is None
    assert found.spearman.fisher is not None
    assert found.spearman.resampling.n_tasks == 5


def test_a_large_table_is_resampled_in_part_and_says_so(monkeypatch) -> None:
    table = world(np.random.default_rng(2), 400)
    monkeypatch.setattr(module, "MAX_ROWS_OF_TAU", 300)

    (part,) = associations(table, ["n_turns"])
    monkeypatch.setattr(module, "MAX_ROWS_OF_TAU", 10_000)
    (whole,) = associations(table, ["n_turns"])

    assert part.kendall.resampling.n_rows_used < 500 < part.kendall.resampling.n_rows
    assert whole.kendall.resampling.n_rows_used == table.height
    width = [one.kendall.interval.high - one.kendall.interval.low for one in (part, whole)]
    assert width[0] == pytest.approx(width[1], rel=0.25)
    assert part.kendall.value == whole.kendall.value


def test_the_seed_decides_and_the_order_of_rows_does_not(table) -> None:
    once, again, other = (associations(table, COLUMNS, seed=seed) for seed in (1, 1, 2))
    moved = associations(table.sample(fraction=1.0, shuffle=True, seed=3), COLUMNS, seed=1)

    assert once == again != other
    for one, same in zip(once, moved, strict=True):
        assert same.spearman.interval.low == pytest.approx(one.spearman.interval.low)
        assert same.kendall.interval.high == pytest.approx(one.kendall.interval.high, abs=1e-6)


@pytest.mark.slow
def test_intervals_by_task_hold_the_truth_where_fishers_are_too_narrow() -> None:
    """150 tables of 40 tasks; a share near 0.95 has a standard error of 0.018."""
    rng = np.random.default_rng(6)
    # weight and length are normal with correlation 0.6 but for the scale, which ranks do not see
    truths = (6 / np.pi * np.arcsin(0.3), 2 / np.pi * np.arcsin(0.6), 0.0)
    held, fisher = np.zeros((150, 3)), np.zeros(150)
    for at in range(150):
        tokens, turns = associations(world(rng, 40, together=0.8), ["n_tokens", "n_turns"])
        found = (tokens.spearman, tokens.kendall, turns.partial)
        held[at] = [
            one.interval.low <= truth <= one.interval.high
            for one, truth in zip(found, truths, strict=True)
        ]
        fisher[at] = tokens.spearman.fisher.low <= truths[0] <= tokens.spearman.fisher.high

    assert (held.mean(axis=0) >= 0.90).all()
    assert (held.mean(axis=0) <= 0.995).all()
    assert fisher.mean() < 0.85

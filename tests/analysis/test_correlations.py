from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.analysis.correlations import (
    fisher_interval,
    rank_statistic,
    tau_statistic,
)

counted_pairs = st.lists(
    st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(-2, 2), st.integers(0, 3)),
    min_size=3,
    max_size=25,
).filter(lambda rows: any(row[-1] for row in rows))


def repeated(rows) -> list[np.ndarray]:
    """Each row as often as its count says."""
    *sides, counts = (np.array(side) for side in zip(*rows, strict=True))
    return [np.repeat(side, counts) for side in sides]


def at_counts(statistic, rows) -> float:
    return float(statistic(np.array([[row[-1] for row in rows]], dtype=float))[0, 0])


@given(counted_pairs)
def test_spearman_of_counted_rows_is_that_of_the_rows_repeated(rows) -> None:
    x, y, _ = repeated(rows)
    sides = [np.array([row[place] for row in rows], dtype=float) for place in (0, 1)]

    found = at_counts(rank_statistic(sides), rows)

    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@given(counted_pairs)
def test_tau_of_counted_rows_is_that_of_scipy_for_the_rows_repeated(rows) -> None:
    x, y, _ = repeated(rows)
    sides = [np.array([row[place] for row in rows], dtype=float) for place in (0, 1)]

    found = at_counts(tau_statistic(*sides), rows)

    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(found)
    else:  # products of shares are summed in single precision
        assert found == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-5)


@given(counted_pairs)
def test_the_partial_correlation_is_that_of_what_least_squares_leaves_of_the_ranks(rows) -> None:
    ranks = [stats.rankdata(side) for side in repeated(rows)]
    sides = [np.array([row[place] for row in rows], dtype=float) for place in (0, 1, 2)]

    found = at_counts(rank_statistic(sides), rows)

    if any(np.ptp(side) == 0 for side in ranks):
        assert np.isnan(found)
        return
    design = np.column_stack([np.ones(len(ranks[2])), ranks[2]])
    left = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in ranks[:2]]
    if min(np.abs(side).max() for side in left) < 1e-9:
        assert np.isnan(found)
    else:
        wanted = stats.pearsonr(*left).statistic
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_correlation_that_length_explains_goes_when_length_is_held_fixed() -> None:
    rng = np.random.default_rng(0)
    length = rng.normal(size=4000)
    x, y = length + rng.normal(size=4000), length + rng.normal(size=4000)
    ones = np.ones((1, 4000))

    assert rank_statistic([x, y])(ones)[0, 0] > 0.4
    assert abs(rank_statistic([x, y, length])(ones)[0, 0]) < 0.06


def test_fishers_interval_is_its_formula() -> None:
    # atanh(0.5) = ln(3)/2; errors sqrt(1.125 / 97), sqrt(1.125 / 96) and sqrt(0.437 / 96)
    for error, options in (
        (np.sqrt(1.125 / 97), {}),
        (np.sqrt(1.125 / 96), {"n_given": 1}),
        (np.sqrt(0.437 / 96), {"kind": "kendall"}),
    ):
        found = fisher_interval(0.5, 100, **options)

        ends = np.log(3) / 2 + np.array([-1, 1]) * 1.959963984540054 * error
        assert (found.low, found.high) == pytest.approx(np.tanh(ends))


@pytest.mark.parametrize(("r", "n"), [(1.0, 50), (-1.0, 50), (0.3, 3)])
def test_fishers_interval_is_not_given_where_it_does_not_exist(r, n) -> None:
    assert fisher_interval(r, n) is None


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_fishers_intervals_hold_the_truth_for_independent_normal_rows(rho) -> None:
    """1000 tables of 60 rows; the share has a standard error of 0.007."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1000, 60))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(1000, 60))
    truths = {"spearman": 6 / np.pi * np.arcsin(rho / 2), "kendall": 2 / np.pi * np.arcsin(rho)}
    kinds: tuple[Literal["spearman", "kendall"], ...] = ("spearman", "kendall")
    held: dict[str, list[bool]] = {kind: [] for kind in kinds}

    for one, other in zip(x, y, strict=True):
        signs = np.sign(one[:, None] - one) * np.sign(other[:, None] - other)
        ranks = [side.argsort().argsort() for side in (one, other)]
        values = (np.corrcoef(*ranks)[0, 1], signs.sum() / (60 * 59))
        for kind, value in zip(kinds, values, strict=True):
            found = fisher_interval(value, 60, kind=kind)
            held[kind].append(found.low <= truths[kind] <= found.high)

    assert {kind: 0.93 <= np.mean(hits) <= 0.97 for kind, hits in held.items()} == {
        "spearman": True,
        "kendall": True,
    }

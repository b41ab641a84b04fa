from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from trajweight.analysis.chance import compare, share_columns, subsample
from trajweight.errors import ConfigError, DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_every_column_deals_the_same_weights_to_other_rows(rng) -> None:
    weights = rng.exponential(size=12)

    shares = share_columns(weights, permutations=50)

    assert shares.shape == (12, 52)
    assert shares[:, 0] == pytest.approx(1 / 12)
    assert shares[:, 1] == pytest.approx(weights / weights.sum())
    assert (np.sort(shares[:, 2:], axis=0) == np.sort(shares[:, 1])[:, None]).all()
    assert len(np.unique(shares[:, 2:], axis=1).T) == 50


def test_deals_are_drawn_evenly_from_all_there_are() -> None:
    shares = share_columns(np.array([1.0, 2.0, 3.0]), permutations=6000)

    counts = dict.fromkeys(itertools.permutations([1.0, 2.0, 3.0]), 0)
    for column in shares[:, 2:].T:
        counts[tuple((column * 6).round(6).tolist())] += 1
    assert all(abs(n - 1000) < 4 * np.sqrt(1000 * 5 / 6) for n in counts.values())


def test_deals_by_group_move_whole_groups_of_one_size_and_mix_inside() -> None:
    weights = np.array([1.0, 10.0, 2.0, 11.0, 3.0, 100.0, 101.0, 102.0])
    groups = np.array([7, 4, 7, 4, 9, 2, 2, 2])

    shares = share_columns(weights, groups=groups, permutations=400) * weights.sum()

    seen = set()
    for deal in shares[:, 2:].round(6).T:
        assert {frozenset(deal[[0, 2]]), frozenset(deal[[1, 3]])} == {
            frozenset({1.0, 2.0}),
            frozenset({10.0, 11.0}),
        }
        assert deal[4] == 3.0
        assert set(deal[5:]) == {100.0, 101.0, 102.0}
        seen.add(tuple(deal.tolist()))
    assert len(seen) == 2 * 2 * 2 * 6  # which pair, the order in each pair, the order in three


def test_the_same_seed_deals_the_same() -> None:
    weights = np.arange(1.0, 9.0)

    once, again, other = (share_columns(weights, seed=seed) for seed in (3, 3, 4))

    assert (once == again).all()
    assert (once != other).any()


@pytest.mark.parametrize("permutations", [39, 199])
def test_weights_that_mean_nothing_fall_outside_of_the_band_once_in_ten(rng, permutations) -> None:
    n_runs, outside = 400, 0
    for run in range(n_runs):
        values, weights = rng.normal(size=15), rng.exponential(size=15)
        shares = share_columns(weights, permutations=permutations, seed=run)
        outside += compare(values @ shares, signed=True).verdict != "noise"

    assert abs(outside / n_runs - 0.1) < 3 * np.sqrt(0.09 / n_runs)


def test_p_values_of_weights_that_mean_nothing_are_spread_evenly(rng) -> None:
    found = []
    for run in range(800):
        shares = share_columns(rng.exponential(size=12), permutations=99, seed=run)
        found.append(compare(rng.normal(size=12) @ shares).p_value)

    for level in (0.1, 0.3, 0.6):
        error = np.sqrt(level * (1 - level) / len(found))
        assert abs(np.mean(np.array(found) <= level) - level) < 3 * error


def test_rows_of_one_group_are_not_as_many_witnesses(rng) -> None:
    """Ten tasks of six like rows, weighed by task: only deals by group keep the error of 10 %."""
    outside = {"rows": 0, "groups": 0}
    groups, n_runs = np.repeat(np.arange(10), 6), 300
    for run in range(n_runs):
        values, weights = rng.normal(size=10)[groups], rng.exponential(size=10)[groups]
        for name, by in (("rows", None), ("groups", groups)):
            shares = share_columns(weights, permutations=39, seed=run, groups=by)
            outside[name] += compare(values @ shares).verdict != "noise"

    assert outside["rows"] / n_runs > 0.35
    assert abs(outside["groups"] / n_runs - 0.1) < 3 * np.sqrt(0.09 / n_runs)


def test_equal_weights_are_noise_however_sums_are_rounded(rng) -> None:
    for n in range(2, 40):
        values = rng.normal(size=n) * 1e6
        shares = share_columns(np.full(n, 0.1), permutations=19)

        found = compare(
            np.array(
                [
                    values[order] @ column
                    for order, column in zip(map(rng.permutation, [n] * 21), shares.T, strict=True)
                ]
            )
        )

        assert found.verdict == "noise"
        assert found.p_value == 1.0


def test_the_band_leaves_out_five_in_a_hundred_on_either_side() -> None:
    dealt = np.random.default_rng(0).permutation(np.arange(1.0, 200.0))  # 1 to 199

    found = compare(np.concatenate([[7.0, 9.0], dealt]))

    assert (found.null_low, found.null_median, found.null_high) == (10.0, 100.0, 190.0)
    assert (found.before, found.after, found.n_permutations) == (7.0, 9.0, 199)
    assert found.p_value == pytest.approx(2 * 10 / 200)
    assert json.loads(json.dumps(found.as_dict()))["verdict"] == "nearer"


@pytest.mark.parametrize(
    ("after", "signed", "verdict"),
    [
        (9.9, False, "nearer"),
        (10.0, False, "noise"),
        (190.0, False, "noise"),
        (190.1, False, "further"),
        (-100.1, True, "further"),
        (-99.0, True, "nearer"),
        (190.1, True, "further"),
    ],
)
def test_nearer_and_further_are_judged_against_the_band(after, signed, verdict) -> None:
    values = np.concatenate([[100.0, after], np.arange(1.0, 200.0)])

    assert compare(values, signed=signed).verdict == verdict


def test_what_cannot_be_compared_is_refused() -> None:
    for weights in ([1.0, -0.5], [0.0, 0.0], [1.0, np.nan], []):
        with pytest.raises(DataError, match="cannot be compared"):
            share_columns(np.array(weights))
    with pytest.raises(ConfigError, match="at least 19"):
        share_columns(np.ones(3), permutations=18)
    with pytest.raises(DataError, match="gave nan"):
        compare(np.array([1.0, np.nan, *range(19)]))


def test_a_subsample_is_seeded_sorted_and_without_repeats() -> None:
    rows = subsample(1000, 50, seed=5)

    assert len(set(rows.tolist())) == 50
    assert (np.diff(rows) > 0).all()
    assert (rows == subsample(1000, 50, seed=5)).all()
    assert (rows != subsample(1000, 50, seed=6)).any()
    assert subsample(3, 3, seed=0).tolist() == [0, 1, 2]

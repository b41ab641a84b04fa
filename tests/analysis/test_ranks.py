from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.analysis.ranks import average_ranks, ordered

counted = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=25)


@given(st.lists(st.floats(-1e6, 1e6)))
def test_average_ranks_are_those_of_scipy(values) -> None:
    assert average_ranks(np.array(values)).tolist() == stats.rankdata(values).tolist()


@given(counted)
def test_a_row_counted_twice_ranks_as_two_equal_rows(rows) -> None:
    values, counts = (np.array(side) for side in zip(*rows, strict=True))

    found = ordered(values).ranks(counts[None].astype(float))[0]

    repeated = stats.rankdata(np.repeat(values, counts))
    assert np.repeat(found, counts).tolist() == repeated.tolist()


@given(counted)
def test_sums_are_taken_over_equal_values_in_rising_order(rows) -> None:
    values, counts = (np.array(side) for side in zip(*rows, strict=True))

    found = ordered(values).sums(counts[None].astype(float))[0]

    assert found.tolist() == [counts[values == value].sum() for value in sorted(set(values))]


def test_minus_zero_is_zero() -> None:
    assert average_ranks(np.array([0.0, -0.0, 1.0])).tolist() == [1.5, 1.5, 3.0]


@pytest.mark.parametrize("n", [1, 7])
def test_equal_values_share_the_middle_rank(n) -> None:
    assert average_ranks(np.full(n, 3.0)).tolist() == [(n + 1) / 2] * n

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.analysis.correlations import rank_correlations, spearman

columns = st.integers(3, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-5, 5), min_size=n, max_size=n)] * 2)
)


@given(columns)
def test_spearman_is_that_of_scipy_ties_and_all(pair) -> None:
    x, y = pair

    found = spearman(pl.Series(x), pl.Series(y))

    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_only_order_matters() -> None:
    x = pl.Series(np.random.default_rng(0).normal(size=50))

    assert spearman(x, x.exp()) == pytest.approx(1.0)
    assert spearman(x, -(x**3)) == pytest.approx(-1.0)


def test_rows_without_a_number_do_not_count() -> None:
    table = pl.DataFrame(
        {
            "weight": [1.0, 2.0, 3.0, 4.0, None],
            "base_nll": [4.0, None, 2.0, 1.0, 9.0],
            "n_turns": [1, 1, 1, 1, 1],
            "n_tokens": [None, None, 5, 6, None],
        },
        schema_overrides={"n_tokens": pl.Int64},
    ).with_columns(pl.col("base_nll").replace(2.0, float("nan")).alias("odd"))

    found = rank_correlations(table, ["base_nll", "n_turns", "n_tokens", "odd"])

    assert [(one.rho, one.n) for one in found] == [(-1.0, 3), (None, 4), (None, 2), (None, 2)]
    assert [one.is_suspicious for one in found] == [True, False, False, False]

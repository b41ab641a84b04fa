from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.histograms import BIN_EDGES, histogram, histograms_by

rows = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(1e-6, 50.0)), st.sampled_from(["a", "b", "c"])),
    min_size=1,
    max_size=60,
)


@given(rows)
def test_the_bars_are_those_of_numpy_for_every_source_on_the_same_edges(found_rows) -> None:
    table = pl.DataFrame(found_rows, schema=["weight", "source"], orient="row")

    found = histograms_by(table, "source")

    assert list(found) == sorted(set(table["source"]))
    for name, one in found.items():
        weights = table.filter(pl.col("source") == name)["weight"].to_numpy()
        edges = [*BIN_EDGES, np.inf]
        counts = np.histogram(np.round(weights, 9), bins=edges)[0]
        mass = np.histogram(np.round(weights, 9), bins=edges, weights=weights)[0]
        assert one.counts == tuple(counts)
        assert one.row_shares == pytest.approx(counts / len(weights))
        assert one.mass_shares == pytest.approx(mass / (weights.sum() or 1.0), abs=1e-12)


def test_a_weight_on_an_edge_stands_above_it_even_if_division_left_it_below() -> None:
    just_one = 3 * (1 / 3) * 7 / 7 - 1e-16
    assert histogram(np.array([0.2, just_one, 3.0])).counts == (
        *(0, 1, 0, 0, 0, 1),
        *([0] * 9),
        1,
    )


def test_a_source_without_mass_has_rows_and_no_shares_of_mass() -> None:
    table = pl.DataFrame({"weight": [0.0, 0.0, 1.0], "source": ["a", "a", "b"]})

    found = histograms_by(table, "source")["a"]

    assert found.counts[0] == 2
    assert found.row_shares[0] == 1.0
    assert found.mass_shares == (0.0,) * len(BIN_EDGES)


def test_rows_without_a_source_are_in_no_group() -> None:
    table = pl.DataFrame({"weight": [1.0, 2.0], "source": ["a", None]})

    assert sum(histograms_by(table, "source")["a"].counts) == 1
    assert histograms_by(table.clear(), "source") == {}
    assert histogram(np.zeros(0)).row_shares == (0.0,) * len(BIN_EDGES)

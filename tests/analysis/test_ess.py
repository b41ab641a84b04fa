from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from trajweight.analysis.ess import spread, spread_by, top_mass


def test_the_spread_of_uniform_weights_is_full() -> None:
    found = spread(np.ones(8))

    assert (found.n, found.mean, found.mass_share, found.ess, found.ess_fraction) == (8, 1, 1, 8, 1)


@pytest.mark.parametrize("weights", [np.zeros(3), np.zeros(0)])
def test_where_there_is_no_mass_nothing_is_effective(weights) -> None:
    found = spread(weights)

    assert found.ess == found.ess_fraction == found.mass_share == top_mass(weights, 1) == 0.0


def test_groups_stand_by_mean_and_share_the_whole_mass() -> None:
    table = pl.DataFrame({"source": ["b", "a", "c", "c"], "weight": [1.0, 1.0, 2.0, 4.0]})

    found = spread_by(table, "source")

    assert list(found) == ["c", "a", "b"]
    assert sum(group.mass_share for group in found.values()) == pytest.approx(1.0)
    assert found["c"].mass_share == 0.75
    assert found["c"].ess == pytest.approx(36 / 20)


def test_the_heaviest_rows_hold_their_share() -> None:
    weights = np.array([1.0, 5.0, 2.0, 2.0])

    assert top_mass(weights, 1) == 0.5
    assert top_mass(weights, 99) == 1.0

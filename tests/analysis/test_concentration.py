from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.concentration import concentration
from trajweight.analysis.ess import top_mass

some_weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=1, max_size=40)


@given(some_weights)
def test_gini_is_the_mean_difference_of_all_pairs(weights) -> None:
    w = np.array(weights)

    found = concentration(w)

    if w.sum() == 0:
        assert {found.gini, found.lorenz, found.top_1} == {None}
        return
    wanted = np.abs(w[:, None] - w[None, :]).sum() / (2 * len(w) * w.sum())
    assert found.gini == pytest.approx(wanted, abs=1e-12)


@given(some_weights.filter(any))
def test_the_lorenz_curve_is_read_off_the_lightest_rows(weights) -> None:
    w = sorted(weights)

    found = concentration(np.array(weights)).lorenz or ()

    assert len(found) == 101
    for place, share in enumerate(found):
        rows = place / 100 * len(w)
        whole = int(rows + 1e-9)
        held = sum(w[:whole]) + (rows - whole) * (w[whole] if whole < len(w) else 0.0)
        assert share == pytest.approx(held / sum(w), abs=1e-9)


def test_gini_is_one_minus_twice_the_area_under_the_curve() -> None:
    weights = np.random.default_rng(0).exponential(size=100)  # the points fall on the rows

    found = concentration(weights)

    assert found.gini == pytest.approx(1 - 2 * np.trapezoid(np.array(found.lorenz), dx=0.01))


def test_even_weights_have_no_gini_and_one_heavy_row_has_nearly_all() -> None:
    assert concentration(np.full(7, 0.3)).gini == pytest.approx(0.0, abs=1e-15)
    assert concentration(np.array([0.0, 0.0, 0.0, 9.0])).gini == pytest.approx(3 / 4)


@pytest.mark.parametrize(("n", "tenth", "hundredth"), [(1, 1, 1), (10, 1, 1), (101, 11, 2)])
def test_the_heaviest_rows_hold_their_mass(n, tenth, hundredth) -> None:
    weights = np.random.default_rng(n).exponential(size=n)

    found = concentration(weights)

    assert found.top_1 == pytest.approx(weights.max() / weights.sum())
    assert found.top_10_percent == pytest.approx(top_mass(weights, tenth))
    assert found.top_1_percent == pytest.approx(top_mass(weights, hundredth))


def test_repeating_the_rows_changes_neither_gini_nor_curve() -> None:
    weights = np.random.default_rng(2).exponential(size=9)

    once, thrice = concentration(weights), concentration(np.tile(weights, 3) * 5)

    assert thrice.gini == pytest.approx(once.gini)
    assert thrice.lorenz == pytest.approx(once.lorenz)


def test_where_there_is_no_mass_nothing_is_said() -> None:
    assert concentration(np.zeros(0)).as_dict() == {
        "n": 0,
        **dict.fromkeys(("top_1", "top_1_percent", "top_10_percent", "gini", "lorenz")),
    }

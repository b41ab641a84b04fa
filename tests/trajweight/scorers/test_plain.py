from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from tests.trajweight.scorers.pools import pool_of
from trajweight.scorers import scorer, weights_of


def test_uniform_weighs_all_rows_one() -> None:
    found = scorer("uniform").score(pool_of(["a", "b b", "c"]))

    assert weights_of(found, target_ess=0.3).tolist() == [1.0, 1.0, 1.0]


def test_random_draws_are_uniform_and_have_nothing_to_do_with_each_other() -> None:
    one, two = (scorer("random").score(pool_of(["a"] * 3000, seed=n)).scores for n in (0, 1))

    # fixed seeds; by chance alone these fail less than once in a thousand choices of seeds
    assert kstest(one, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.07
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.07


def test_a_random_draw_stays_with_its_row_when_others_come() -> None:
    few, many = (scorer("random").score(pool_of(["a"] * n)).scores for n in (3, 10))

    assert many[:3].tolist() == few.tolist()

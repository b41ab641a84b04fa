from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from trajweight.bench.outcomes import outcome_of_weights, rank_correlation_given
from trajweight.errors import DataError

KINDS = ("expert", "reworded", "shuffled", "lm-played")
rows = st.lists(
    st.tuples(
        st.integers(0, 3).map(float),
        st.sampled_from(KINDS),
        st.booleans(),
        st.integers(1, 5).map(float),
    ),
    min_size=2,
    max_size=40,
)


def outcome(weights, kinds, is_good, lengths=None):
    lengths = np.ones(len(weights)) if lengths is None else np.array(lengths, dtype=float)
    return outcome_of_weights(
        np.array(weights, dtype=float), kinds=kinds, is_good=np.array(is_good), lengths=lengths
    )


@given(rows)
def test_areas_are_those_of_scikit_learn_on_the_rows_in_question(table) -> None:
    weights, kinds, good, lengths = zip(*table, strict=True)
    if not any(weights):
        return
    found = outcome(weights, kinds, good, lengths)
    w, y, kind = np.array(weights), np.array(good), np.array(kinds)

    for name in KINDS:
        bad_ones = (kind == name) & ~y
        against = bad_ones | y
        if bad_ones.any() and y.any():
            assert found.auroc_by_kind[name] == pytest.approx(roc_auc_score(y[against], w[against]))
            assert found.average_precision_by_kind[name] == pytest.approx(
                average_precision_score(y[against], w[against])
            )
        else:
            assert name not in found.auroc_by_kind
        among = (kind == name) & y | ~y
        if len(set(y[among])) == 2:
            area = roc_auc_score(y[among], w[among])
            assert found.good_auroc_by_kind[name] == pytest.approx(area)
    if len(set(good)) == 2:
        assert found.auroc == pytest.approx(roc_auc_score(y, w))
        assert found.average_precision == pytest.approx(average_precision_score(y, w))
    else:
        assert found.auroc is found.average_precision is None


@given(rows)
def test_length_given_kind_is_pearson_of_what_least_squares_leaves_of_the_ranks(table) -> None:
    x, kinds, _, y = zip(*table, strict=True)
    columns = np.array([[kind == name for name in KINDS] for kind in kinds], dtype=float)

    left = []
    for side in (x, y):
        ranks = stats.rankdata(side)
        left.append(ranks - columns @ np.linalg.lstsq(columns, ranks, rcond=None)[0])

    found = rank_correlation_given(np.array(x), np.array(y), kinds)
    if min(np.abs(side).max() for side in left) < 1e-9:
        assert found is None
    else:
        assert found == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-9)


def test_with_one_kind_the_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, size=(2, 50)).astype(float)

    assert rank_correlation_given(x, y, ["one"] * 50) == pytest.approx(
        stats.spearmanr(x, y).statistic
    )


def test_length_that_only_tells_the_kinds_apart_counts_for_nothing() -> None:
    kinds = ["expert"] * 4 + ["looping"] * 4
    lengths = [3, 4, 3, 4, 90, 91, 90, 91]

    found = outcome([9, 9, 8, 8, 1, 1, 0, 0], kinds, [True] * 4 + [False] * 4, lengths)

    assert found.length_correlation == pytest.approx(0.0)


def test_equal_weights_find_nobody_and_lose_nothing() -> None:
    found = outcome(
        [3.0] * 4, ["expert", "expert", "shuffled", "looping"], [True, True, False, False]
    )

    assert (
        found.auroc == found.auroc_by_kind["looping"] == found.good_auroc_by_kind["expert"] == 0.5
    )
    assert found.ess_fraction == pytest.approx(1.0)
    assert found.mean_by_kind == {"expert": 1.0, "looping": 1.0, "shuffled": 1.0}
    assert found.good_mass == 0.5
    assert found.length_correlation is None


def test_shares_and_means_do_not_depend_on_the_scale() -> None:
    found = outcome([60.0, 0.0, 20.0, 0.0], ["a", "a", "b", "b"], [True, True, False, False])

    assert found.mean_by_kind == {"a": 1.5, "b": 0.5}
    assert found.good_mass == 0.75
    assert found.ess_fraction == pytest.approx(80**2 / (60**2 + 20**2) / 4)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [1.0]])
def test_what_is_no_weights_is_refused(weights) -> None:
    with pytest.raises(DataError, match=r"cannot be judged|have \[1, 2, 2, 2\] rows"):
        outcome_of_weights(
            np.array(weights),
            kinds=["a", "b"],
            is_good=np.array([True, False]),
            lengths=np.ones(2),
        )

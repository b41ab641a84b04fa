from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajweight.buckets import buckets
from trajweight.errors import ConfigError, DataError

some_weights = (
    st.lists(st.one_of(st.just(0.0), st.sampled_from([0.5, 1.0, 3.0]), st.floats(1e-3, 1e3)))
    .filter(any)
    .map(np.array)
)
numbers = st.integers(1, 12)


def share(w) -> float:
    """ESS/n by its other formula."""
    return 1 / (1 + (np.std(w) / np.mean(w)) ** 2)


@given(w=some_weights, k=numbers)
def test_rates_are_shares_of_the_mass_and_sum_to_one(w, k) -> None:
    made = buckets(w, k)

    masses = [w[made.of_row == place].sum() for place in range(len(made.buckets))]
    rates = [bucket.rate for bucket in made.buckets]
    assert rates == pytest.approx(masses / w.sum(), abs=1e-12)
    assert sum(rates) == pytest.approx(1.0)


@given(w=some_weights, k=numbers)
def test_a_row_is_met_in_proportion_to_the_mean_weight_of_its_bucket(w, k) -> None:
    made = buckets(w, k)

    for place, bucket in enumerate(made.buckets):
        mean = (w / w.mean())[made.of_row == place].mean()
        assert bucket.rate / bucket.n_rows * len(w) == pytest.approx(mean, abs=1e-12)
        assert bucket.mean_weight == pytest.approx(mean, abs=1e-12)
    assert made.weights.mean() == pytest.approx(1.0)


@given(w=some_weights, k=numbers)
def test_buckets_part_the_rows_by_weight_and_never_part_a_tie(w, k) -> None:
    made = buckets(w, k)

    found = [w[made.of_row == place] for place in range(len(made.buckets))]
    assert len(found) == min(k, len(set((w / w.mean()).tolist())))
    assert all(len(one) for one in found)
    for one, two in pairwise(found):
        assert one.max() < two.min()
    for one, bucket in zip(found, made.buckets, strict=True):
        assert bucket.n_rows == len(one)
        assert [bucket.lightest, bucket.heaviest] == pytest.approx(
            [one.min() / w.mean(), one.max() / w.mean()]
        )


@given(w=some_weights, k=numbers)
def test_the_loss_is_one_minus_the_variance_between_over_the_variance(w, k) -> None:
    made = buckets(w, k)

    total = np.var(w / w.mean())
    between = np.var(made.weights)
    if total > 1e-12:
        assert made.loss == pytest.approx(1 - between / total, abs=1e-9)
    assert 0 <= made.loss <= 1
    for place, bucket in enumerate(made.buckets):
        inside = w[made.of_row == place]
        variation = np.std(inside) / np.mean(inside) if inside.any() else 0.0
        assert bucket.variation == pytest.approx(variation, abs=1e-9)


@given(w=some_weights, k=numbers)
def test_ess_is_never_lowered_by_buckets(w, k) -> None:
    made = buckets(w, k)

    assert made.ess_before == pytest.approx(share(w))
    assert made.ess_after == pytest.approx(share(made.weights))
    assert made.ess_after >= made.ess_before - 1e-12


@given(n=st.integers(1, 50), weight=st.floats(1e-3, 1e3), k=numbers)
def test_equal_weights_give_one_bucket_and_no_loss(n, weight, k) -> None:
    made = buckets(np.full(n, weight), k)

    (bucket,) = made.buckets
    assert (bucket.n_rows, bucket.rate, bucket.variation) == (n, 1.0, 0.0)
    assert (made.loss, made.ess_after) == (0.0, made.ess_before)


@given(w=some_weights)
def test_as_many_buckets_as_weights_lose_nothing(w) -> None:
    made = buckets(w, len(w))

    assert made.loss == 0.0
    np.testing.assert_allclose(made.weights, w / w.mean(), rtol=1e-12)
    assert all(bucket.variation == 0.0 for bucket in made.buckets)


@given(w=some_weights)
def test_one_bucket_is_the_uniform_mixture(w) -> None:
    made = buckets(w, 1)

    assert made.weights == pytest.approx(np.ones(len(w)))
    assert made.loss == pytest.approx(float(np.ptp(made.of_row) == 0 and np.ptp(w) > 0))


@given(n=st.integers(1, 200), k=numbers, seed=st.integers(0, 99))
def test_without_ties_buckets_have_equal_sizes_give_or_take_one(n, k, seed) -> None:
    w = np.random.default_rng(seed).permutation(np.arange(1.0, n + 1))

    sizes = [bucket.n_rows for bucket in buckets(w, k).buckets]

    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_a_crowd_of_one_weight_takes_a_bucket_and_the_others_share_the_rest() -> None:
    w = np.array([1.0] * 90 + [2.0, 3.0, 4.0, 5.0, 6.0, 7.0])

    sizes = [bucket.n_rows for bucket in buckets(w, 3).buckets]

    assert sizes == [90, 3, 3]


def test_a_bucket_ends_at_the_weight_nearest_to_its_even_part() -> None:
    w = np.array([1.0] * 5 + [2.0] * 6 + [3.0])

    assert [bucket.n_rows for bucket in buckets(w, 2).buckets] == [5, 7]  # not 11 and 1


@pytest.mark.parametrize("k", [0, -2])
def test_less_than_one_bucket_is_refused_by_the_name_of_its_option(k) -> None:
    with pytest.raises(ConfigError, match=f"--buckets is {k}"):
        buckets(np.ones(3), k)


def test_what_is_no_weight_is_named() -> None:
    with pytest.raises(DataError, match=r"weight 0 is -1\.0"):
        buckets(np.array([-1.0, 2.0]), 2)

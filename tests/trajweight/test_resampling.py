from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.errors import ConfigError, DataError
from trajweight.resampling import MANY_COPIES, copies, epoch_seed, order, takeover

seeds = st.integers(0, 2**32)
some_weights = (
    st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=40)
    .filter(any)
    .map(np.array)
)
some_counts = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any).map(np.array)


def alike(lines) -> int:
    """Pairs of neighbours that are copies of one row."""
    return sum(one == two for one, two in pairwise(lines))


def fewest_alike(counts: tuple[int, ...]) -> int:
    """By trying every order."""
    lines = [row for row, count in enumerate(counts) for _ in range(count)]
    return min(alike(order) for order in set(permutations(lines)))


def partitions(size: int, most: int) -> list[tuple[int, ...]]:
    """All ways to write a size as counts that do not rise."""
    if size == 0:
        return [()]
    heads = range(min(size, most), 0, -1)
    return [(head, *rest) for head in heads for rest in partitions(size - head, head)]


def distances(lines: np.ndarray) -> np.ndarray:
    """Lines from each copy to the next of the same row."""
    by_row = np.lexsort((np.arange(len(lines)), lines))
    return np.diff(by_row)[np.diff(lines[by_row]) == 0]


@given(w=some_weights, size=st.integers(1, 10_000), seed=seeds)
def test_counts_add_up_and_each_is_the_floor_or_ceiling_of_its_expectation(w, size, seed) -> None:
    counts = copies(w, size, seed)

    expected = w / w.sum() * size
    assert counts.sum() == size
    assert counts.dtype == np.int64
    assert np.all(counts >= np.floor(expected - 1e-8))
    assert np.all(counts <= np.ceil(expected + 1e-8))
    assert not counts[w == 0].any()


@given(n=st.integers(1, 300), times=st.integers(1, 5), scale=st.floats(1e-3, 1e3), seed=seeds)
def test_whole_expectations_leave_nothing_to_chance(n, times, scale, seed) -> None:
    assert copies(np.full(n, scale), n * times, seed).tolist() == [times] * n


def test_counts_are_unbiased_and_vary_as_the_closed_form_says() -> None:
    """Means of 20 000 draws by z scores, whose greatest of 30 passes 4.8 once in 20 000 times."""
    w = np.random.default_rng(0).lognormal(0, 1, 30)
    size, draws = 40, 20_000

    drawn = np.array([copies(w, size, seed) for seed in range(draws)])

    expected = w / w.sum() * size
    variance = (expected % 1) * (1 - expected % 1)
    z = (drawn.mean(0) - expected) / np.sqrt(variance / draws)
    assert np.abs(z).max() < 4.8
    assert (z**2).sum() < 30 + 5 * np.sqrt(2 * 30)
    # a share p of draws at the ceiling has the variance p (1 - p), which p within 0.02 pins down
    np.testing.assert_allclose(drawn.var(0), variance, atol=0.02)


def test_rows_that_expect_next_to_nothing_get_their_part_together() -> None:
    w = np.array([1.0, *[1e-4] * 10_000])

    drawn = [copies(w, 2, seed) for seed in range(20)]

    assert [counts[0] for counts in drawn] == [1] * 20
    assert len({int(counts[1:].argmax()) for counts in drawn}) > 10


def test_variance_is_far_below_that_of_drawing_with_replacement() -> None:
    """2000 lognormal weights, 400 files of 2000 lines by each way."""
    rng = np.random.default_rng(1)
    w = rng.lognormal(0, 1, 2000)
    p, size, draws = w / w.sum(), 2000, 400

    systematic = np.array([copies(w, size, seed) for seed in range(draws)]).var(0).mean()
    multinomial = rng.multinomial(size, p, draws).var(0).mean()

    expected = p * size
    assert systematic == pytest.approx((expected % 1 * (1 - expected % 1)).mean(), rel=0.03)
    assert multinomial == pytest.approx((expected * (1 - p)).mean(), rel=0.03)
    assert 0.17 < systematic < 0.185
    assert multinomial > 0.97


def test_neighbours_in_the_table_are_not_tied_to_each_other() -> None:
    """Without a shuffle of the rows, of two neighbours with one half each exactly one is in."""
    w = np.ones(40)

    together = np.mean([copies(w, 20, seed)[:2].prod() for seed in range(4000)])

    # 20 * 19 / (40 * 39) if all pairs are alike, with a standard error of 0.007
    assert together == pytest.approx(0.2436, abs=0.03)


@given(w=some_weights, size=st.integers(1, 500), seed=seeds, power=st.integers(-300, 300))
def test_the_scale_of_the_weights_does_not_count(w, size, seed, power) -> None:
    assert copies(w, size, seed).tolist() == copies(w * 2.0**power, size, seed).tolist()


def test_a_seed_gives_its_counts_and_order_and_another_gives_others() -> None:
    w = np.random.default_rng(2).lognormal(0, 1, 100)
    one, again, other = (copies(w, 100, seed) for seed in (5, 5, 6))

    assert one.tolist() == again.tolist() != other.tolist()
    assert order(one, 5).tolist() == order(one, 5).tolist() != order(one, 6).tolist()


@pytest.mark.parametrize("size", [0, -3, 2**50])
def test_a_size_that_no_file_has_is_refused(size) -> None:
    with pytest.raises(ConfigError, match=f"a file of {size} lines"):
        copies(np.ones(3), size, 0)


def test_what_is_no_weight_is_named() -> None:
    with pytest.raises(DataError, match="weight 1 is nan"):
        copies(np.array([1.0, np.nan]), 3, 0)


@given(counts=some_counts, seed=seeds)
def test_an_order_holds_each_row_as_often_as_counted(counts, seed) -> None:
    lines = order(counts, seed)

    assert np.bincount(lines, minlength=len(counts)).tolist() == counts.tolist()


@pytest.mark.parametrize("size", range(1, 8))
def test_no_order_has_fewer_copies_side_by_side(size) -> None:
    for counts in partitions(size, size):
        fewest = fewest_alike(counts)
        assert takeover(np.array(counts)).adjacent == fewest
        for seed in range(12):
            shuffled = np.random.default_rng(seed).permutation(counts)
            assert alike(order(shuffled, seed)) == fewest, counts


@given(counts=some_counts, seed=seeds)
def test_copies_are_never_adjacent_unless_one_row_takes_more_than_half(counts, seed) -> None:
    lines = order(counts, seed)

    assert alike(lines) == max(0, 2 * counts.max() - counts.sum() - 1)


@given(others=st.integers(0, 12), extra=st.integers(2, 40), seed=seeds)
def test_a_row_that_takes_more_than_half_stands_in_even_runs(others, extra, seed) -> None:
    lines = order(np.array([*[1] * others, others + extra]), seed)

    text = "".join("." if line == others else "x" for line in lines)
    lengths = [len(run) for run in text.split("x")]
    assert max(lengths) - min(lengths) <= 1


@settings(max_examples=50)
@given(sigma=st.floats(0.3, 1.5), n=st.integers(50, 2000), seed=seeds)
def test_copies_stand_far_apart_except_of_one_row_at_most(sigma, n, seed) -> None:
    counts = copies(np.random.default_rng(seed).lognormal(0, sigma, n), n, seed)

    lines = order(counts, seed)

    least = n / counts.max() / 2 - 2
    near = {row for row in np.flatnonzero(counts > 1) if _least_distance(lines, row) < least}
    assert len(near) <= 1


def _least_distance(lines: np.ndarray, row: np.intp) -> int:
    return int(np.diff(np.flatnonzero(lines == row)).min())


def test_copies_of_light_rows_stand_much_farther_apart_than_those_of_the_heaviest() -> None:
    counts = np.array([100, *[2] * 450])

    lines = order(counts, 0)

    heavy = distances(lines[lines != 0])
    assert set(np.diff(np.flatnonzero(lines == 0))) <= {9, 10, 11}
    assert np.median(heavy) > 300  # of 900 lines, where the best would be 450


def test_each_row_may_stand_anywhere_in_the_file() -> None:
    """A row with one copy and the heaviest: mean places of 3000 files of 20 lines."""
    counts = np.array([1, 3, *[2] * 8])

    places = np.array(
        [[np.flatnonzero(order(counts, s) == r)[0] for r in (0, 1)] for s in range(3000)]
    )

    # uniform over 20 lines: mean 9.5, standard error 0.105
    assert places[:, 0].mean() == pytest.approx(9.5, abs=0.5)
    assert set(places[:, 0]) == set(range(20))
    # the first of three copies, 6 or 7 lines apart, is somewhere in the first third
    assert set(places[:, 1]) >= set(range(6))


def test_without_copies_an_order_is_any_permutation() -> None:
    found = {tuple(order(np.ones(4, dtype=np.int64), seed)) for seed in range(1000)}

    assert len(found) == 24


def test_an_empty_file_has_an_empty_order() -> None:
    assert order(np.zeros(3, dtype=np.int64), 0).tolist() == []


def test_a_row_that_takes_over_is_told_and_a_common_one_is_not() -> None:
    few, many = np.array([2, 1, 0, 1]), np.array([1] * 1000 + [MANY_COPIES])

    assert takeover(few).said == ""
    assert (takeover(few).row, takeover(few).largest, takeover(few).share) == (0, 2, 0.5)
    assert takeover(many).said == "One row stands 10 times among 1010 lines (0.99 %)."
    assert takeover(np.array([1] * 1000 + [MANY_COPIES - 1])).said == ""
    assert takeover(np.array([3, *[1] * 27])).said.startswith("One row stands 3 times")
    assert takeover(np.array([3, *[1] * 28])).said == ""


def test_seeds_of_epochs_differ_and_fit_into_a_double() -> None:
    found = [epoch_seed(seed, epoch) for seed in range(20) for epoch in range(100)]

    assert len(set(found)) == 2000
    assert all(0 <= one < 2**53 == int(float(2**53)) for one in found)


@pytest.mark.slow
def test_a_million_rows_and_ten_million_lines_take_seconds() -> None:
    w = np.random.default_rng(3).lognormal(0, 1, 1_000_000)

    counts = copies(w, 10_000_000, 0)
    lines = order(counts, 0)

    expected = w / w.sum() * 1e7
    assert counts.sum() == len(lines) == 10_000_000
    assert np.all(np.abs(counts - expected) < 1)
    assert not (lines[1:] == lines[:-1]).any()

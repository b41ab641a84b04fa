from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trajweight.analysis import alignment as module
from trajweight.analysis.alignment import alignment, mean_distances
from trajweight.errors import DataError


def slow_twin(x, w, y) -> float:
    """The formula as a double loop."""
    both = np.concatenate([x, y])
    both = (both - both.mean(0)) / np.where(both.std(0) > 0, both.std(0), 1)
    x, y = both[: len(x)], both[len(x) :]
    p, q = w / w.sum(), np.full(len(y), 1 / len(y))

    def mean_distance(a, s, b, t) -> float:
        return float(
            sum(
                s[i] * t[j] * np.linalg.norm(a[i] - b[j]) / np.sqrt(a.shape[1])
                for i in range(len(a))
                for j in range(len(b))
            )
        )

    inside = mean_distance(x, p, x, p) / (1 - (p**2).sum())
    inside_real = mean_distance(y, q, y, q) / (1 - (q**2).sum())
    return 2 * mean_distance(x, p, y, q) - inside - inside_real


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_both_distances_are_those_of_a_double_loop(rng) -> None:
    x, y, w = rng.normal(size=(23, 5)), rng.normal(1, 2, size=(17, 5)), rng.uniform(size=23)
    x[:, 4] = y[:, 4] = 3.0

    found = alignment(x, w, y)

    assert found.unweighted == pytest.approx(slow_twin(x, np.ones(23), y), abs=1e-6)
    assert found.weighted == pytest.approx(slow_twin(x, w, y), abs=1e-6)


def test_in_one_dimension_it_is_the_energy_distance_of_scipy(rng) -> None:
    # scipy gives the square root of the biased form; large n makes the bias small
    x, y = rng.normal(size=(3000, 1)), rng.normal(1.0, 1.0, size=(3000, 1))
    deviation = np.concatenate([x, y]).std()

    found = alignment(x, np.ones(3000), y)

    wanted = stats.energy_distance(x[:, 0], y[:, 0]) ** 2 / deviation
    assert found.unweighted == pytest.approx(wanted, rel=0.01)


def test_blocks_do_not_change_the_distances(rng, monkeypatch) -> None:
    x, y, w = rng.normal(size=(50, 4)), rng.normal(size=(31, 4)), rng.uniform(size=50)
    whole = alignment(x, w, y)

    monkeypatch.setattr(module, "_BLOCK", 7)

    assert alignment(x, w, y).weighted == pytest.approx(whole.weighted, abs=1e-9)


def test_neither_scale_of_weights_nor_units_of_embeddings_matter(rng) -> None:
    x, y, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), rng.uniform(size=30)
    units, shift = np.array([1e-3, 1.0, 1e4]), np.array([5.0, 0.0, -9.0])

    plain, scaled = alignment(x, w, y), alignment(x * units + shift, 17 * w, y * units + shift)

    assert scaled.weighted == pytest.approx(plain.weighted, abs=1e-6)


def test_weights_that_select_the_real_distribution_bring_the_set_nearer(rng) -> None:
    near, far = rng.normal(0, 1, size=(100, 8)), rng.normal(2, 1, size=(100, 8))
    w = np.concatenate([np.ones(100), np.zeros(100)])

    found = alignment(np.concatenate([near, far]), w, rng.normal(0, 1, size=(80, 8)))

    assert found.gain > 5 * found.gain_error
    assert abs(found.weighted) < 0.02


def test_uneven_weights_are_not_punished_for_being_uneven(rng) -> None:
    """Same distribution on both sides, random weights: the mean gain over draws is about zero."""
    gains = []
    for _ in range(60):
        x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
        gains.append(alignment(x, rng.exponential(size=40) ** 2, y).gain)

    error = np.std(gains) / np.sqrt(len(gains))
    assert abs(np.mean(gains)) < 3 * error


def test_uniform_weights_gain_exactly_nothing(rng) -> None:
    found = alignment(rng.normal(size=(20, 3)), np.full(20, 0.1), rng.normal(size=(20, 3)))

    assert found.gain == pytest.approx(0.0, abs=1e-12)
    assert found.gain_error == pytest.approx(0.0, abs=1e-12)


def test_many_rows_are_subsampled_by_seed(rng) -> None:
    x, y, w = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)), rng.uniform(size=60)

    once, again, other = (alignment(x, w, y, seed=s, max_rows=25) for s in (1, 1, 2))

    assert (once.n_synthetic, once.n_real) == (25, 25)
    assert once == again != other


def test_with_nothing_to_compare_nothing_is_said(rng) -> None:
    x = rng.normal(size=(5, 3))

    assert alignment(x, np.ones(5), x[:1]) is None
    assert alignment(x, np.array([0, 0, 1.0, 0, 0]), x) is None
    assert alignment(x[:0], np.ones(0), x) is None


def test_embeddings_that_do_not_fit_are_refused(rng) -> None:
    x = rng.normal(size=(5, 3))

    with pytest.raises(DataError, match="rows must match"):
        alignment(x, np.ones(5), x[:, :2])
    with pytest.raises(DataError, match="not a finite number"):
        alignment(np.where(x == x[0, 0], np.nan, x), np.ones(5), x)


def test_mean_distances_of_points_on_a_line() -> None:
    x, y = np.array([[0.0], [4.0]]), np.array([[1.0]])

    assert mean_distances(x, np.array([[0.5], [0.5]]), y).item() == 2.0

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from trajweight.analysis import discrepancy as module
from trajweight.analysis.discrepancy import (
    distance,
    gaussian,
    mean_kernels,
    median_distance,
    mmd_p_values,
    pair_discrepancies,
    sliced_wasserstein,
    standardised,
)
from trajweight.errors import DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def slow_twin(kernel, x, p, y) -> float:
    """The unbiased formula as loops over pairs; ``kernel`` takes two rows."""
    q = np.full(len(y), 1 / len(y))

    def inside(a, s) -> float:
        pairs = itertools.permutations(range(len(a)), 2)
        return sum(s[i] * s[j] * kernel(a[i], a[j]) for i, j in pairs) / (1 - (s**2).sum())

    pairs = itertools.product(range(len(x)), range(len(y)))
    cross = sum(p[i] * q[j] * kernel(x[i], y[j]) for i, j in pairs)
    return float(2 * cross - inside(x, p) - inside(y, q))


def columns_of(*weights) -> np.ndarray:
    return np.stack([np.asarray(w, float) / np.sum(w) for w in weights], axis=1)


def test_both_pair_distances_are_those_of_loops_over_pairs(rng) -> None:
    x, y, w = rng.normal(size=(19, 3)), rng.normal(0.5, 2, size=(13, 3)), rng.exponential(size=19)
    shares = columns_of(np.ones(19), w)

    energy, similarity = pair_discrepancies(x, shares, y, [distance, gaussian(0.8)])

    for column in range(2):
        p = shares[:, column]
        euclid = slow_twin(lambda a, b: np.linalg.norm(a - b), x, p, y)
        bell = slow_twin(lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * 0.8**2)), x, p, y)
        assert energy[column] == pytest.approx(euclid, abs=1e-7)
        assert similarity[column] == pytest.approx(bell, abs=1e-10)


def test_unweighted_mmd_is_the_u_statistic_of_the_kernel_matrices_of_sklearn(rng) -> None:
    x, y = rng.normal(size=(40, 4)), rng.normal(0.3, 1, size=(30, 4))
    among, among_real, cross = (
        rbf_kernel(a, b, gamma=1 / (2 * 1.5**2)) for a, b in ((x, x), (y, y), (x, y))
    )

    (found,) = pair_discrepancies(x, columns_of(np.ones(40)), y, [gaussian(1.5)])

    wanted = (among.sum() - 40) / (40 * 39) + (among_real.sum() - 30) / (30 * 29) - 2 * cross.mean()
    assert -found[0] == pytest.approx(wanted, abs=1e-12)


def test_in_one_dimension_it_is_the_weighted_energy_distance_of_scipy(rng) -> None:
    # scipy gives the root of the biased form, whose self-terms are not divided by 1 - sum p^2
    x, y, w = rng.normal(size=60), rng.normal(1, 2, size=50), rng.exponential(size=60)
    p, q = w / w.sum(), np.full(50, 1 / 50)

    (found,) = pair_discrepancies(x[:, None], p[:, None], y[:, None], [distance])

    inside, inside_real = (s @ euclidean_distances(a[:, None]) @ s for a, s in ((x, p), (y, q)))
    biased = found[0] + inside * ((p**2).sum() / (1 - (p**2).sum())) + inside_real / 49
    assert np.sqrt(biased) == pytest.approx(stats.energy_distance(x, y, u_weights=w), abs=1e-6)


def test_the_mean_over_all_deals_of_the_weights_is_the_unweighted_distance(rng) -> None:
    """Uneven weights by themselves move an unbiased distance nowhere."""
    x, y, w = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), np.array([1.0, 2.0, 5.0, 0.0, 9.0])
    deals = columns_of(*(w[list(deal)] for deal in itertools.permutations(range(5))))

    dealt = pair_discrepancies(x, deals, y, [distance, gaussian(1.0)])
    plain = pair_discrepancies(x, columns_of(np.ones(5)), y, [distance, gaussian(1.0)])

    for found, wanted in zip(dealt, plain, strict=True):
        assert found.mean() == pytest.approx(wanted[0], abs=1e-12)


def test_equal_distributions_lie_at_zero_on_average(rng) -> None:
    found = []
    for _ in range(150):
        x, y, w = rng.normal(size=(30, 2)), rng.normal(size=(20, 2)), rng.exponential(size=30)
        found.append(pair_discrepancies(x, columns_of(w), y, [distance, gaussian(1.0)]))

    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(150)
    assert (np.abs(means) < 3 * errors).all()


def test_blocks_change_nothing(rng, monkeypatch) -> None:
    x, y, w = rng.normal(size=(50, 4)), rng.normal(size=(31, 4)), rng.uniform(size=50)
    shares, kernels = columns_of(np.ones(50), w), [distance, gaussian(1.0)]
    whole = pair_discrepancies(x, shares, y, kernels)
    p_whole = mmd_p_values(x, w, y, bandwidth=1.0, permutations=19)

    monkeypatch.setattr(module, "_BLOCK", 7)

    parts = pair_discrepancies(x, shares, y, kernels)
    # distances of a row to its copy are rounding alone, and the root makes 1e-16 of it 1e-8
    assert np.array(parts) == pytest.approx(np.array(whole), abs=1e-7)
    assert mmd_p_values(x, w, y, bandwidth=1.0, permutations=19) == p_whole


def test_mean_kernels_of_points_on_a_line() -> None:
    x, y = np.array([[0.0], [4.0]]), np.array([[1.0]])

    assert mean_kernels(x, np.array([[0.5], [0.5]]), y, [distance])[0].item() == 2.0


def test_the_median_distance_is_that_of_scipy(rng) -> None:
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))

    assert median_distance(x, y) == pytest.approx(np.median(pdist(np.concatenate([x, y]))))
    assert median_distance(np.zeros((5, 2)), np.zeros((4, 2))) == 1.0


def test_of_many_rows_some_give_the_median(rng) -> None:
    x, y = rng.normal(size=(2500, 2)), rng.normal(size=(500, 2))

    wanted = np.median(pdist(np.concatenate([x, y])))
    assert median_distance(x, y, seed=1) == pytest.approx(wanted, rel=0.05)
    assert median_distance(x, y, seed=1) == median_distance(x, y, seed=1)


def test_standardised_rows_have_deviation_one_and_unit_free_distances(rng) -> None:
    x, y = rng.normal(size=(30, 4)), rng.normal(1, 1, size=(20, 4))
    x[:, 3] = y[:, 3] = 2.5

    a, b = standardised(x, y)
    c, d = standardised(x * [1e-3, 1, 1e4, 1] + 5, y * [1e-3, 1, 1e4, 1] + 5)

    both = np.concatenate([a, b])
    assert both.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert both.std(axis=0) == pytest.approx([0.5, 0.5, 0.5, 0.0])  # one over the root of four
    assert np.concatenate([c, d]) == pytest.approx(both, abs=1e-9)


def test_embeddings_that_do_not_fit_are_refused(rng) -> None:
    x = rng.normal(size=(5, 3))

    with pytest.raises(DataError, match="rows must match"):
        standardised(x, x[:, :2])
    with pytest.raises(DataError, match="not a finite number"):
        standardised(np.where(x == x[0, 0], np.inf, x), x)


def permutation_twin(x, w, y, bandwidth, permutations, seed) -> tuple[float, float]:
    """Splits made one at a time from the whole kernel matrix, as loops would have it."""
    rng, z = np.random.default_rng(seed), np.concatenate([x, y])
    kernel, n = rbf_kernel(z, gamma=1 / (2 * bandwidth**2)), len(x)

    def squared(s, t, p) -> float:
        q = np.full(len(t), 1 / len(t))
        k_ss, k_tt = (kernel[np.ix_(a, a)] - np.eye(len(a)) for a in (s, t))
        among = p @ k_ss @ p / (1 - (p**2).sum()) + q @ k_tt @ q / (1 - (q**2).sum())
        return float(among - 2 * p @ kernel[np.ix_(s, t)] @ q)

    found = []
    for split in range(permutations + 1):
        s = rng.permutation(len(z))[:n] if split else np.arange(n)
        t = np.setdiff1d(np.arange(len(z)), s)
        found.append([squared(s, t, np.full(n, 1 / n)), squared(s, t, w / w.sum())])
    values = np.array(found)
    return tuple((values >= values[0] - 1e-12).mean(axis=0).tolist())


@pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
def test_mmd_p_values_are_those_of_splits_made_one_at_a_time(rng, shift) -> None:
    x, y = rng.normal(size=(20, 2)), rng.normal(shift, 1, size=(12, 2))
    w = rng.exponential(size=20)

    found = mmd_p_values(x, w, y, bandwidth=1.3, permutations=99, seed=4)

    assert found == pytest.approx(permutation_twin(x, w, y, 1.3, 99, 4))


def test_mmd_p_values_hold_for_weights_that_stand_on_few_rows(rng) -> None:
    found = []
    for seed in range(5):
        x, y, w = rng.normal(size=(8, 2)), rng.normal(size=(9, 2)), rng.exponential(size=8) ** 4
        ours = mmd_p_values(x, w, y, bandwidth=1.3, permutations=199, seed=seed)
        assert ours == pytest.approx(permutation_twin(x, w, y, 1.3, 199, seed))
        found.append(ours.after)

    assert len(set(found)) == 5


def test_mmd_finds_a_shift_and_weights_that_undo_it(rng) -> None:
    x, y = rng.normal(1.0, 1, size=(400, 1)), rng.normal(size=(80, 1))
    undone = np.exp(0.5 - x[:, 0])  # density of y over density of x

    found = mmd_p_values(x, undone, y, bandwidth=1.0, permutations=199)

    assert found.before == 1 / 200
    assert found.after > 0.1


def test_mmd_p_values_reject_equal_sets_as_often_as_they_say(rng) -> None:
    """Exactly where nothing is weighed; closely where the weights make two sets equal."""
    n_runs, rejected = 400, np.zeros(2)
    for run in range(n_runs):
        x, y = rng.normal(0.0, 1, size=(60, 2)), rng.normal(size=(25, 2))
        plain = mmd_p_values(x, np.ones(60), y, bandwidth=1.5, permutations=39, seed=run)
        moved = x + np.array([0.8, 0.0])
        undone = np.exp(0.32 - 0.8 * moved[:, 0])
        after = mmd_p_values(moved, undone, y, bandwidth=1.5, permutations=39, seed=run)
        rejected += [plain.before <= 0.05, after.after <= 0.05]

    error = np.sqrt(0.05 * 0.95 / n_runs)
    assert abs(rejected[0] / n_runs - 0.05) < 3 * error
    assert rejected[1] / n_runs < 0.05 + 4 * error


def test_on_a_line_it_is_the_weighted_wasserstein_distance_of_scipy(rng) -> None:
    x, y = rng.normal(size=40), rng.normal(1, 2, size=30)
    w, other = rng.exponential(size=40), rng.exponential(size=40)

    found = sliced_wasserstein(x[:, None], columns_of(w, other), y[:, None], directions=3)

    for column, weights in enumerate((w, other)):
        wanted = stats.wasserstein_distance(x, y, u_weights=weights)
        assert found[column] == pytest.approx(wanted, rel=1e-9)


def test_sliced_wasserstein_is_the_mean_of_scipys_over_the_lines(rng) -> None:
    x, y, w = rng.normal(size=(25, 6)), rng.normal(0.5, 1, size=(20, 6)), rng.exponential(size=25)
    x[3] = x[4] = y[5]  # ties

    found = sliced_wasserstein(x, columns_of(w), y, directions=10, seed=2)

    lines = np.random.default_rng(2).normal(size=(6, 10))
    lines /= np.linalg.norm(lines, axis=0)
    wanted = np.mean(
        [
            stats.wasserstein_distance(x @ line, y @ line, u_weights=w) * np.sqrt(6)
            for line in lines.T
        ]
    )
    assert found[0] == pytest.approx(wanted, rel=1e-9)


def test_directions_are_seeded_and_many_agree_whatever_the_seed(rng) -> None:
    x, y = rng.normal(size=(60, 5)), rng.normal(1, 1, size=(50, 5))

    def found(seed, n) -> float:
        return sliced_wasserstein(x, columns_of(np.ones(60)), y, directions=n, seed=seed).item()

    assert found(1, 8) == found(1, 8) != found(2, 8)
    assert found(1, 2000) == pytest.approx(found(2, 2000), rel=0.05)

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from trajweight.analysis.alignment import alignment
from trajweight.analysis.inequalities import posterior_width
from trajweight.analysis.tradeoff import tempered, tradeoff
from trajweight.errors import ConfigError, DataError

HEATS = (0.5, 1.0, 2.0, math.inf)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def a_path(rng, **more):
    """Half of the synthetic rows are like the real ones and weighed so, more or less."""
    x = np.concatenate([rng.normal(size=(60, 3)), rng.normal(2.5, 1, size=(60, 3))])
    y = rng.normal(size=(50, 3))
    learned = np.concatenate([rng.uniform(2, 3, size=60), rng.uniform(0.3, 0.8, size=60)])
    columns = np.stack([tempered(learned, heat) for heat in HEATS], axis=1)
    return x, y, columns, tradeoff(x, columns, HEATS, y, **more)


def test_sharper_weights_have_less_shift_less_diversity_and_fewer_rows(rng) -> None:
    points = a_path(rng)[3].points

    for sharper, flatter in pairwise(points):
        assert sharper.temperature < flatter.temperature
        assert sharper.shift < flatter.shift
        assert sharper.diversity < flatter.diversity
        assert sharper.ess < flatter.ess
        assert sharper.width > flatter.width
    assert points[-1].ess_fraction == pytest.approx(1.0)


def test_the_shift_is_the_energy_distance_of_alignment(rng) -> None:
    x, y, columns, found = a_path(rng)

    for column, point in enumerate(found.points):
        assert point.shift == pytest.approx(alignment(x, columns[:, column], y).weighted)


def test_the_diversity_of_equal_weights_is_the_mean_distance_of_pairs(rng) -> None:
    x, y, _, found = a_path(rng)

    both = np.concatenate([x, y])
    scaled = (x - both.mean(axis=0)) / both.std(axis=0) / math.sqrt(3)
    assert found.points[-1].diversity == pytest.approx(pdist(scaled).mean())


def test_the_diversity_of_weights_is_that_of_pairs_drawn_by_them() -> None:
    """Three points on a line: two near, one far."""
    x, y = np.array([[0.0], [1.0], [10.0]]), np.array([[0.0], [1.0]])
    weights = np.array([[2.0], [1.0], [1.0]])

    found = tradeoff(x, weights, [1.0], y).points[0]

    pairs = {(0, 1): 1.0, (0, 2): 10.0, (1, 2): 9.0}
    shares = [0.5, 0.25, 0.25]
    mean = sum(2 * shares[i] * shares[j] * d for (i, j), d in pairs.items())
    deviation = np.concatenate([x, y]).std()
    assert found.diversity == pytest.approx(mean / (1 - sum(s**2 for s in shares)) / deviation)


def test_widths_count_tasks(rng) -> None:
    tasks = np.arange(120) // 4

    _, _, columns, found = a_path(rng, tasks=tasks, kl=2.0, delta=0.1)

    by_task = columns[:, 0].reshape(30, 4).sum(axis=1)
    n_eff = by_task.sum() ** 2 / (by_task**2).sum()
    assert found.points[0].n_eff == pytest.approx(n_eff)
    assert found.points[0].width == pytest.approx(posterior_width(n_eff, 2.0, 0.1))
    assert found.points[-1].n_eff == pytest.approx(30)


def test_many_rows_are_subsampled_but_sample_sizes_use_all(rng) -> None:
    x, y, columns, whole = a_path(rng)

    once, again, other = (
        tradeoff(x, columns, HEATS, y, max_rows=30, seed=seed) for seed in (1, 1, 2)
    )

    assert (once.n_synthetic_used, once.n_real_used) == (30, 30)
    assert (once.n_synthetic, once.n_real) == (120, 50)
    assert [point.ess for point in once.points] == [point.ess for point in whole.points]
    assert once == again != other


def test_the_path_is_json_with_null_for_uniform_weights(rng) -> None:
    facts = a_path(rng)[3].as_dict()

    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert [point["temperature"] for point in facts["points"]] == [0.5, 1.0, 2.0, None]


def test_tempered_weights_are_powers_with_mean_one(rng) -> None:
    weights = rng.exponential(size=30)

    for heat in (0.3, 1.0, 4.0):
        power = weights ** (1 / heat)
        assert tempered(weights, heat) == pytest.approx(power / power.mean())
    assert tempered(weights, math.inf) == pytest.approx(1.0)
    assert tempered(weights, 1e-4).max() == pytest.approx(30)  # all on the heaviest row
    with pytest.raises(ConfigError, match="above 0"):
        tempered(weights, 0.0)


def test_what_cannot_be_drawn_is_refused(rng) -> None:
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(4, 2))

    with pytest.raises(ConfigError, match="2 temperatures and weights of"):
        tradeoff(x, np.ones((5, 3)), [1.0, 2.0], y)
    with pytest.raises(DataError, match="fewer than two rows"):
        tradeoff(x, np.eye(5)[:, :1], [1.0], y)

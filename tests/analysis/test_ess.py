from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trajweight.analysis.ess import (
    MAX_POINTS,
    along_training,
    effective_size,
    effective_size_by,
    spread,
    spread_by,
    top_mass,
    uniform_rows,
)
from trajweight.weights import effective_sample_size


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


weighted_rows = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(1e-3, 1e3)),
        st.integers(0, 4),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=40,
)


def sums_by(keys, values) -> list[float]:
    """Sums by key, as a dictionary makes them."""
    found: dict = {}
    for key, value in zip(keys, values, strict=True):
        found[key] = found.get(key, 0.0) + value
    return list(found.values())


@given(weighted_rows)
def test_every_effective_size_is_its_formula(rows) -> None:
    weights = np.array([weight for weight, _, _ in rows])
    tasks = np.array([task for _, task, _ in rows])

    found = effective_size(weights, tasks)

    n, mass = len(rows), weights.sum()
    uniform = 1 / sum((size / n) ** 2 for size in sums_by(tasks, np.ones(n)))
    assert (found.n, found.n_zero, found.n_tasks) == (n, (weights == 0).sum(), len(set(tasks)))
    assert found.kish_tasks_uniform == pytest.approx(uniform)
    if mass == 0:
        assert found.kish == found.perplexity == found.kish_tasks == found.mass_share == 0.0
        assert found.uniform_rows_of_tasks == 0.0
        return
    by_task = 1 / sum((part / mass) ** 2 for part in sums_by(tasks, weights))
    assert found.kish == pytest.approx(mass**2 / (weights**2).sum())
    assert found.kish == pytest.approx(effective_sample_size(weights))
    assert found.perplexity == pytest.approx(np.exp(stats.entropy(weights)))
    assert found.kish_tasks == pytest.approx(by_task)
    assert found.uniform_rows_of_tasks == pytest.approx(n * by_task / uniform)
    assert found.mass_share == pytest.approx(1.0)


@given(weighted_rows)
def test_effective_sizes_stand_in_their_order(rows) -> None:
    weights = np.array([weight for weight, _, _ in rows])
    found = effective_size(weights, np.array([task for _, task, _ in rows]))

    assert 0 <= found.kish <= found.perplexity * (1 + 1e-12)
    assert found.perplexity <= found.n - found.n_zero
    assert found.kish_tasks <= min(found.kish, found.n_tasks) * (1 + 1e-12)
    assert found.kish_fraction == found.kish / found.n


@given(weighted_rows)
def test_a_group_has_the_effective_size_of_its_rows_alone(rows) -> None:
    table = pl.DataFrame(rows, schema=["weight", "task_id", "source"], orient="row")

    found = effective_size_by(table, "source")

    mass = table["weight"].sum()
    means = [one.mass_share / one.n for one in found.values()]
    assert means == sorted(means, reverse=True)
    for name, one in found.items():
        mine = table.filter(pl.col("source") == name)
        weights, tasks = mine["weight"].to_numpy(), mine["task_id"].to_numpy()
        alone = effective_size(weights, tasks)
        share = weights.sum() / mass if mass else 0.0
        assert one.as_dict() == pytest.approx({**alone.as_dict(), "mass_share": share})


def test_many_rows_of_few_tasks_are_worth_those_tasks() -> None:
    found = effective_size(np.ones(5000), np.arange(5000) % 50)

    assert found.kish == pytest.approx(5000)
    assert found.kish_tasks == pytest.approx(50)


def test_rows_without_tasks_are_tasks_of_their_own() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    table = pl.DataFrame({"weight": weights, "source": ["a"] * 3})

    assert effective_size(weights).kish_tasks == pytest.approx(effective_size(weights).kish)
    assert effective_size_by(table, "source")["a"] == effective_size(weights)


def test_no_rows_and_tiny_weights_give_finite_sizes() -> None:
    tiny = effective_size(np.array([1e-300, 3e-300]))

    assert effective_size(np.zeros(0)).kish == effective_size(np.zeros(0)).kish_tasks_uniform == 0
    assert tiny.kish == pytest.approx(1.6)


@pytest.mark.parametrize("intraclass", [0.0, 0.3, 1.0])
def test_as_many_uniform_rows_have_the_same_variance_of_the_mean(intraclass) -> None:
    # 12 tasks of 3 rows: a part of k tasks has k/12 of the rows
    tasks = np.repeat(np.arange(12), 3)
    weights = np.random.default_rng(1).exponential(size=36)
    same_task = tasks[:, None] == tasks[None, :]
    covariance = np.where(same_task, intraclass, 0.0)
    np.fill_diagonal(covariance, 1.0)

    found = uniform_rows(weights, tasks, intraclass=intraclass)

    shares = weights / weights.sum()
    variance = {
        k: np.full(3 * k, 1 / (3 * k)) @ covariance[: 3 * k, : 3 * k] @ np.full(3 * k, 1 / (3 * k))
        for k in range(1, 13)
    }
    mine = shares @ covariance @ shares
    fewer = max(k for k in variance if 3 * k <= found)
    assert variance[fewer] * 3 * fewer / found == pytest.approx(mine)


@given(weighted_rows, st.floats(0.0, 1.0))
def test_uniform_rows_lie_between_rows_that_are_news_and_tasks_that_are(rows, intraclass) -> None:
    weights = np.array([weight for weight, _, _ in rows])
    tasks = np.array([task for _, task, _ in rows])
    if weights.sum() == 0:
        return
    ends = effective_size(weights, tasks)

    found = uniform_rows(weights, tasks, intraclass=intraclass)

    low, high = sorted([ends.kish, ends.uniform_rows_of_tasks])
    assert low * (1 - 1e-9) <= found <= high * (1 + 1e-9)


def test_the_path_of_each_head_is_told_with_its_lowest_point() -> None:
    shares = [1.0, 0.6, 0.2, 0.2, 0.5]
    trace = [
        {"step": step, "member": member, "ess_fraction": share + member / 10, "outer_loss": 1.0}
        for step, share in enumerate(shares, start=1)
        for member in (1, 0)
    ]

    first, second = along_training(trace)

    assert (first.member, first.steps, first.ess_fractions) == (0, (1, 2, 3, 4, 5), tuple(shares))
    assert (first.n_steps, first.lowest, first.lowest_at, first.last) == (5, 0.2, 3, 0.5)
    assert second.member == 1
    assert second.last == pytest.approx(0.6)


def test_a_long_path_is_thinned_but_its_ends_and_its_lowest_point_stay() -> None:
    trace = [{"step": step, "ess_fraction": 0.5} for step in range(1, 5001)]
    trace[1234]["ess_fraction"] = 0.01

    (found,) = along_training(trace)

    assert len(found.steps) == MAX_POINTS
    assert (found.steps[0], found.steps[-1]) == (1, 5000)
    assert (found.n_steps, found.lowest, found.lowest_at) == (5000, 0.01, 1235)


def test_steps_that_tell_no_share_are_passed_over() -> None:
    trace: list[dict] = [
        {"step": 1, "outer_loss": 2.0},
        {"step": 2, "ess_fraction": None},
        {"step": 3, "ess_fraction": float("nan")},
        {"step": 4, "ess_fraction": 0.5},
    ]

    assert [path.steps for path in along_training(trace)] == [(4,)]
    assert along_training(trace[:3]) == along_training([]) == []

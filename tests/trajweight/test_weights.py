from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajweight.errors import ConfigError, DataError
from trajweight.weights import (
    WEIGHT_COLUMNS,
    check_weight_table,
    effective_sample_size,
    effective_share,
    mean_one,
    real_row_weight,
    weight_table,
)

some_weights = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(np.array)


def table() -> pl.DataFrame:
    """Two synthetic and two real training rows, and one real validation row."""
    return pl.DataFrame(
        {
            "traj_id": ["s1", "s2", "r1", "r2", "v1"],
            "content_sha256": ["00"] * 5,
            "source": ["a", "b", "real", "real", "real"],
            "origin": ["synthetic", "synthetic", "real", "real", "real"],
            "split": ["train", "train", "train", "train", "validation"],
            "task_id": ["t"] * 5,
            "n_turns": [2] * 5,
            "messages_json": ["[]"] * 5,
        }
    )


def weighted() -> pl.DataFrame:
    return weight_table(table(), weights={"s1": 0.5, "s2": 1.5}, real_weight=0.25)


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_uniform_weights_give_full_ess(n: int) -> None:
    assert effective_sample_size(np.full(n, 0.3)) == pytest.approx(n)


def test_all_weight_on_one_row_gives_an_ess_of_one() -> None:
    assert effective_sample_size(np.array([0.0, 7.0, 0.0])) == 1.0


@given(w=some_weights, scale=st.floats(1e-150, 1e150))
def test_ess_does_not_depend_on_the_scale_and_lies_between_1_and_n(w, scale) -> None:
    ess = effective_sample_size(w)

    assert effective_sample_size(w * scale) == pytest.approx(ess, rel=1e-9)
    assert 1 - 1e-9 <= ess <= len(w) + 1e-9


@given(w=some_weights)
def test_ess_is_n_over_one_plus_the_squared_coefficient_of_variation(w) -> None:
    variation = w.std() / w.mean()

    assert effective_sample_size(w) == pytest.approx(len(w) / (1 + variation**2), rel=1e-9)


def test_ess_takes_tensors_and_stays_differentiable() -> None:
    w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(effective_sample_size, (w,))
    assert effective_sample_size(w).item() == pytest.approx(36 / 14)


@given(n=st.integers(1, 500), m=st.integers(1, 500), share=st.floats(0, 0.95))
def test_real_rows_get_their_share_of_the_mass(n: int, m: int, share: float) -> None:
    mass = n * real_row_weight(n, m, share)

    assert mass / (mass + m) == pytest.approx(share)


def test_with_nothing_to_share_real_rows_weigh_one() -> None:
    assert real_row_weight(5, 0, 0.3) == real_row_weight(0, 5, 0.3) == 1.0


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share of mass"):
        real_row_weight(1, 1, share)


def test_every_row_stands_in_the_weight_table_in_its_order() -> None:
    made = weighted()

    assert made.columns == list(WEIGHT_COLUMNS)
    assert made["traj_id"].to_list() == ["s1", "s2", "r1", "r2", "v1"]
    assert made["weight"].to_list() == [0.5, 1.5, 0.25, 0.25, None]


def test_scores_and_tokens_are_kept_where_known() -> None:
    made = weight_table(
        table(),
        weights={"s1": 1.0, "s2": 1.0},
        real_weight=1.0,
        scores={"s1": -2.5},
        n_tokens={"s1": 7, "v1": 9},
    )

    assert made["score"].to_list() == [-2.5, None, None, None, None]
    assert made["n_tokens"].to_list() == [7, None, None, None, 9]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"s1": 1.0}, "'s2' lacks a learned weight"),
        ({"s1": 1.0, "s2": 1.0, "r1": 1.0}, "'r1' is not in split train but has"),
        ({"s1": float("nan"), "s2": 1.0}, "row 's1' has weight nan"),
        ({"s1": float("inf"), "s2": 1.0}, "row 's1' has weight inf"),
        ({"s1": -0.5, "s2": 2.5}, "row 's1' has weight -0.5"),
        ({"s1": 1.0, "s2": 1.1}, "mean weight of the synthetic training rows is 1.05"),
    ],
)
def test_weights_that_break_a_law_are_refused(weights, message) -> None:
    with pytest.raises(DataError, match=message):
        weight_table(table(), weights=weights, real_weight=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": pl.lit(1.0)}, "'v1' has weight 1.0; weight must be null outside"),
        ({"weight": pl.lit(None, dtype=pl.Float64)}, r"has weight None \(4 rows in all\)"),
        ({"traj_id": pl.lit("s1")}, r"has traj_id 's1' \(5 rows in all\)"),
        ({"origin": pl.lit("human")}, "has origin 'human'"),
        ({"split": pl.lit(None, dtype=pl.String)}, "has split None"),
        ({"n_turns": pl.lit("2")}, "they must be"),
        ({"more": pl.lit(1)}, "they must be"),
    ],
)
def test_a_table_that_breaks_a_law_is_refused(change, message) -> None:
    broken = weighted().with_columns(**change)

    with pytest.raises(DataError, match=message):
        check_weight_table(broken)


def test_a_table_with_no_synthetic_training_rows_is_lawful() -> None:
    check_weight_table(weighted().filter(pl.col("origin") == "real"))


def test_the_effective_share_and_the_mean_stand_very_large_and_small_weights() -> None:
    for factor in (1e-300, 1e300):
        w = np.array([1.0, 3.0]) * factor

        assert mean_one(w) == pytest.approx([0.5, 1.5])
        assert effective_share(mean_one(w)) == pytest.approx(0.8)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from trajweight.analysis.attribution import curve
from trajweight.analysis.explaining import (
    association_facts,
    explained_facts,
    quality_facts,
    some_tasks,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def table(seed: int = 0, *, n: int = 400, **more: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 3, n)
    turns = source * 3 + rng.integers(1, 6, n)
    columns = {
        "weight": rng.gamma(2.0, size=n) + source + 0.1 * turns,
        "source": [f"s{each}" for each in source],
        "task_id": [f"t{each // 4}" for each in range(n)],
        "n_turns": turns,
        "n_tokens": turns * 10 + rng.integers(0, 50, n),
        "base_nll": rng.gamma(2.0, size=n),
        "reward": rng.random(n),
        "success": rng.random(n) < 0.5,
    }
    return pl.DataFrame(columns | more)


def r_squared(rows: pl.DataFrame, sides: list[NDArray[np.float64]]) -> float:
    design, y = np.concatenate(sides, axis=1), rows["weight"].to_numpy()
    return float(LinearRegression().fit(design, y).score(design, y))


def test_length_beyond_the_source_is_what_least_squares_gains_by_it() -> None:
    rows = table()
    source = rows["source"].to_dummies().to_numpy().astype(float)
    length = [curve(rows[name].to_numpy().astype(float)).T for name in ("n_tokens", "n_turns")]

    found = explained_facts(rows)["length"]

    assert found["columns"] == ["n_tokens", "n_turns"]
    assert found["alone"] == pytest.approx(r_squared(rows, length))
    gained = r_squared(rows, [source, *length]) - r_squared(rows, [source])
    assert found["beyond_source"] == pytest.approx(gained)


def test_a_column_that_nobody_has_is_not_asked_about() -> None:
    nobody = pl.Series([None] * 400, dtype=pl.Float64)
    rows = table(reward=nobody, n_tokens=nobody, success=pl.Series([None] * 400, dtype=pl.Boolean))

    assert explained_facts(rows)["length"]["columns"] == ["n_turns"]
    assert "reward" not in [one["column"] for one in association_facts(rows)]
    assert quality_facts(rows, {}) == []


def test_correlations_are_those_of_scipy_and_only_cheap_ones_are_suspicious() -> None:
    rows = table()
    unrelated = pl.col("base_nll").reverse()
    rows = rows.with_columns(reward="weight", n_turns=-pl.col("weight"), n_tokens=unrelated)

    found = {one["column"]: one for one in association_facts(rows)}

    for name, one in found.items():
        known = stats.spearmanr(rows["weight"], rows[name]).statistic
        assert one["rho"] == one["spearman"]["value"] == pytest.approx(known)
    assert [name for name, one in found.items() if one["suspicious"]] == ["n_turns"]
    assert found["reward"]["rho"] == pytest.approx(1.0)


def test_success_is_asked_before_reward() -> None:
    found = quality_facts(table(), {"returns": {"objective": "successful"}})

    assert [(one["label"], one["was_given"]) for one in found] == [
        ("success", False),
        ("reward", False),
    ]
    assert quality_facts(table(), {"returns": {"prior": "rwr"}})[0]["was_given"]


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_the_rows_is_made_of_whole_tasks_and_no_larger_than_asked(seed: int) -> None:
    rows = table(n=1000)

    part = some_tasks(rows, most=333, seed=seed)

    assert 329 < part.height <= 333
    assert set(part.group_by("task_id").len()["len"]) == {4}
    assert some_tasks(rows, most=1000) is rows
    assert some_tasks(rows, most=333, seed=seed).equals(part)
    assert not some_tasks(rows, most=333, seed=seed + 1).equals(part)
    assert part.join(rows, on=rows.columns, how="semi").height == part.height


def test_a_part_of_the_rows_tells_the_same_story() -> None:
    rows = table(n=20_000)
    part = some_tasks(rows, most=5_000)

    for name in ("alone", "beyond_source"):
        whole = explained_facts(rows)["length"][name]
        assert explained_facts(part)["length"][name] == pytest.approx(whole, abs=0.03)

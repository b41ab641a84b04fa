from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from trajweight.analysis.sizes import N_TASKS, size_facts


def table(seed: int, *, n: int = 300, tasks: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    task = [None if rng.random() < 0.1 else f"t{rng.integers(tasks)}" for _ in range(n)]
    return pl.DataFrame(
        {
            "weight": rng.gamma(0.5, size=n),
            "source": [f"s{rng.integers(3)}" for _ in range(n)],
            "task_id": pl.Series(task, dtype=pl.String),
        }
    )


def kish(weights: list[float]) -> float:
    return sum(weights) ** 2 / sum(w * w for w in weights)


@pytest.mark.parametrize("seed", range(3))
def test_the_heaviest_tasks_are_those_of_a_slow_twin(seed: int) -> None:
    rows = table(seed)
    mass: dict[str, list[float]] = {}
    for weight, task in zip(rows["weight"], rows["task_id"], strict=True):
        if task is not None:
            mass.setdefault(task, []).append(weight)
    ranked = sorted(mass, key=lambda task: -sum(mass[task]))[:N_TASKS]

    found = size_facts(rows, [])["heaviest_tasks"]

    assert [one["task_id"] for one in found] == ranked
    for one in found:
        own = mass[one["task_id"]]
        assert one["n"] == len(own)
        assert one["kish"] == pytest.approx(kish(own))
        assert one["mass_share"] == pytest.approx(sum(own) / rows["weight"].sum())


def test_sizes_by_source_and_overall_agree_with_the_plain_formula() -> None:
    rows = table(5)

    found = size_facts(rows, [{"step": 1, "ess_fraction": 0.5}])

    assert found["overall"].kish == pytest.approx(kish(rows["weight"].to_list()))
    assert len(found["by_source"]) == 3
    for one in found["by_source"]:
        own = rows.filter(pl.col("source") == one["source"])["weight"].to_list()
        assert one["kish"] == pytest.approx(kish(own))
    assert [path.last for path in found["along_training"]] == [0.5]


def test_no_rows_have_no_sizes() -> None:
    found = size_facts(table(0).clear(), [])

    assert found["overall"].n == 0
    assert found["by_source"] == found["heaviest_tasks"] == found["along_training"] == []

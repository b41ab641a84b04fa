from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from trajweight.analysis.reckoning import CEILING, reckoning_facts


def rows(*, n: int = 4000, m: int = 3000, loss: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All rows and the synthetic ones; every row its own task, losses between 0 and 2 ``loss``."""
    rng = np.random.default_rng(0)
    whole = pl.DataFrame(
        {
            "origin": ["synthetic"] * n + ["real"] * m,
            "split": ["train"] * n + ["test"] * m,
            "task_id": [f"t{i}" for i in range(n + m)],
            "base_nll": rng.uniform(0, 2 * loss, n + m),
            "weight": [1.0] * n + [None] * m,
        }
    )
    return whole, whole.filter(pl.col("weight").is_not_null())


def found(*, learning: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return reckoning_facts(*rows(**more), learning or {}, None)


def test_the_bound_from_untouched_rows_is_hoeffdings() -> None:
    facts = found()

    whole, _ = rows()
    losses = whole.filter(pl.col("origin") == "real")["base_nll"].to_numpy() / CEILING
    kl, hoeffding = facts["test_set"]
    assert hoeffding["status"] == kl["status"] == "certificate"
    wide = math.sqrt(math.log(1 / facts["delta"]) / (2 * len(losses)))
    assert hoeffding["value"] == pytest.approx(losses.mean() + wide)
    assert losses.mean() < kl["value"] <= hoeffding["value"]


def test_weights_that_were_learned_make_an_estimate_and_never_a_certificate() -> None:
    facts = found()

    assert facts["weighted"]["status"] == "estimate"
    assert "certif" not in facts["weighted"]["sentence"].lower()
    assert facts["weighted"]["delta"] is None


def test_weights_that_nobody_learned_are_fixed_and_can_be_certified() -> None:
    facts = found(learning={"why_uniform": "too few real rows"})

    assert facts["weighted"]["status"] == "certificate"
    assert facts["weighted"]["delta"] == pytest.approx(facts["delta"])
    assert facts["weighted"]["sentence"].startswith("Certified with confidence 0.95")
    whole, _ = rows()
    truth = whole.filter(pl.col("origin") == "real")["base_nll"].mean() / CEILING
    assert truth < facts["weighted"]["value"] < 1.0


def test_few_rows_are_vacuous_and_losses_over_the_ceiling_are_counted() -> None:
    facts = found(n=10, m=5, loss=2 * CEILING)

    assert facts["weighted"]["is_vacuous"]
    assert facts["weighted"]["sentence"].startswith("Vacuous")
    _, synthetic = rows(n=10, m=5, loss=2 * CEILING)
    assert facts["n_cut"] == int((synthetic["base_nll"] > CEILING).sum()) > 0


@pytest.mark.parametrize("lacking", ["real", "synthetic"])
def test_without_losses_on_a_side_there_is_no_bound(lacking: str) -> None:
    whole, _ = rows(n=20, m=20)
    loss = pl.when(pl.col("origin") == lacking).then(None).otherwise("base_nll").alias("base_nll")
    whole = whole.with_columns(loss)

    facts = reckoning_facts(whole, whole.filter(pl.col("weight").is_not_null()), {}, None)

    assert facts["measured"] is False
    assert facts["why"]

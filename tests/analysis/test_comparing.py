from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tests.analysis.test_report import a_run
from tests.analysis.test_schema import poor_run, rich_run
from trajweight.analysis import comparing
from trajweight.analysis.comparing import Sides, alignment_facts, tradeoff_facts
from trajweight.analysis.ess import effective_size
from trajweight.analysis.rows import embeddings_of, numbers_of, texts_of

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


def sides_of(run: Run, **more: Any) -> tuple[pl.DataFrame, Sides]:
    rows = numbers_of(run)
    learned = rows.filter((pl.col("origin") == "synthetic") & (pl.col("split") == "train"))
    sides = Sides.of(run, rows, learned, has_trained=True, **more)
    return learned, sides.read(texts_of(run, sides.ids), embeddings_of(run, sides.ids))


def test_no_more_rows_are_read_than_allowed_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MAX_ROWS", 30)
    learned, sides = sides_of(rich_run(tmp_path))

    found = alignment_facts(sides).facts["distributions"]

    assert sides.synthetic.height == 30
    assert (found["n_synthetic"], found["n_real"]) == (80, 25)
    assert found["embeddings"]["n_synthetic"] == 30
    assert set(sides.synthetic["traj_id"]) <= set(learned["traj_id"])
    assert sides.synthetic["messages_json"].null_count() == 0


def test_the_same_seed_reads_the_same_rows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(comparing, "MAX_ROWS", 30)
    run = rich_run(tmp_path)

    one, same, other = (sides_of(run, seed=seed)[1].ids.to_list() for seed in (1, 1, 2))

    assert one == same != other


def test_weights_that_lead_to_the_real_rows_are_nearer_by_every_measure_of_embeddings(
    tmp_path: Path,
) -> None:
    for near, verdict in ((True, "nearer"), (False, "further")):
        _, sides = sides_of(a_run(tmp_path / verdict, near=near))
        aligned = alignment_facts(sides)

        assert aligned.embeddings is not None
        found = aligned.facts["distributions"]["embeddings"]
        assert found["energy"]["verdict"] == verdict
        assert (aligned.facts["gain"] > 0) == near
        # both ways to the energy distance are one way
        assert aligned.facts["unweighted"] == pytest.approx(found["energy"]["before"])
        assert aligned.facts["weighted"] == pytest.approx(found["energy"]["after"])


def test_the_path_of_temperatures_keeps_the_sizes_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MAX_ROWS", 30)
    learned, sides = sides_of(rich_run(tmp_path))

    found = tradeoff_facts(learned, sides)

    weights = learned["weight"].to_numpy()
    by_heat = {point["temperature"]: point for point in found["points"]}
    whole = effective_size(weights, np.unique(learned["task_id"], return_inverse=True)[1])
    assert by_heat[1.0]["ess"] == pytest.approx(whole.kish)
    assert by_heat[1.0]["n_eff"] == pytest.approx(whole.kish_tasks)
    assert by_heat[None]["ess"] == pytest.approx(80)
    assert by_heat[0.5]["ess"] == pytest.approx((weights**2).sum() ** 2 / (weights**4).sum())
    assert (found["n_synthetic"], found["n_synthetic_used"]) == (80, 30)
    fractions = [point["ess_fraction"] for point in found["points"]]
    assert fractions == sorted(fractions)
    widths = [point["width"] for point in found["points"]]
    assert widths == sorted(widths, reverse=True)


def test_without_embeddings_words_are_compared_and_nothing_else(tmp_path: Path) -> None:
    learned, sides = sides_of(poor_run(tmp_path))

    assert alignment_facts(sides).facts["distributions"] is None
    assert tradeoff_facts(learned, sides)["measured"] is False

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.analysis.test_schema import poor_run, rich_run
from trajweight.analysis import rows as module
from trajweight.analysis.rows import embeddings_of, numbers_of, texts_of

if TYPE_CHECKING:
    from pathlib import Path


def test_numbers_are_those_of_the_tables_in_the_order_of_the_weights(tmp_path: Path) -> None:
    run = rich_run(tmp_path)

    found = numbers_of(run)

    weights, whole = run.table("weights"), run.trajectories()
    assert found["traj_id"].to_list() == weights["traj_id"].to_list()
    for name in ("reward", "success", "n_chars", "n_tool_calls"):
        known = dict(zip(whole["traj_id"], whole[name], strict=True))
        assert found[name].to_list() == [known[each] for each in found["traj_id"]]
    losses = run.table("features")
    known = dict(zip(losses["traj_id"], losses["base_nll"], strict=True))
    assert found["base_nll"].to_list() == [known[each] for each in found["traj_id"]]
    assert found["is_embedded"].all()


def test_without_features_nothing_is_known_of_them(tmp_path: Path) -> None:
    run = poor_run(tmp_path)

    found = numbers_of(run)

    assert found["base_nll"].null_count() == found.height
    assert not found["is_embedded"].any()
    assert embeddings_of(run, found["traj_id"]) is None


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_texts_and_embeddings_are_those_of_the_rows_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(module, "_PART", part)
    run = rich_run(tmp_path)
    wanted = pl.Series("traj_id", ["s7", "r3", "s7", "s41"])

    texts, embeddings = texts_of(run, wanted), embeddings_of(run, wanted)

    whole, features = run.trajectories("messages_json"), run.table("features")
    assert embeddings is not None
    for found, table in ((texts, whole), (embeddings, features)):
        column = found.columns[1]
        known = dict(zip(table["traj_id"], table[column].to_list(), strict=True))
        assert sorted(found["traj_id"]) == ["r3", "s41", "s7"]
        for name, value in zip(found["traj_id"], found[column].to_list(), strict=True):
            assert value == known[name]

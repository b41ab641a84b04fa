"""Small finished runs for tests: rows written, read back, split and weighted by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajweight.progress import Progress
from trajweight.reading import OriginLabels, read_trajectories
from trajweight.run import Run, create_run
from trajweight.weights import weight_table

if TYPE_CHECKING:
    from pathlib import Path


def row(name: str, *, source: str = "good", text: str = "ok", **more: Any) -> dict[str, Any]:
    """An OpenAI-style row."""
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": text}]
    origin = "real" if source == "real" else "synthetic"
    return {"id": name, "source": source, "origin": origin, "messages": messages, **more}


def make_run(
    folder: Path,
    rows: list[dict[str, Any]],
    weights: dict[str, float],
    *,
    splits: dict[str, str] | None = None,
    embeddings: dict[str, list[float]] | None = None,
    real_weight: float = 1.0,
) -> Run:
    """A run over ``rows``; ``weights`` are brought to mean one; all rows train but ``splits``."""
    data = folder / "data.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    reading = read_trajectories([data], labels=OriginLabels(), progress=Progress())
    assert not reading.rejected
    split = [(splits or {}).get(name, "train") for name in reading.table["traj_id"]]
    table = reading.table.with_columns(pl.Series("split", split, dtype=pl.String))
    given = np.array(list(weights.values()))
    named = dict(zip(weights, (given / given.mean()).tolist(), strict=True))
    run = create_run(folder / "run", force=False)
    run.save_trajectories(table)
    run.save_table("weights", weight_table(table, weights=named, real_weight=real_weight))
    if embeddings is not None:
        run.save_table("features", _features(table, embeddings))
    run.save_manifest({})
    return run


def _features(table: pl.DataFrame, embeddings: dict[str, list[float]]) -> pl.DataFrame:
    ids = table["traj_id"].to_list()
    return pl.DataFrame(
        {
            "traj_id": ids,
            "n_assistant_tokens": [3] * len(ids),
            "base_nll": [float(i) for i in range(len(ids))],
            "embedding": [embeddings[name] for name in ids],
        },
        schema_overrides={"embedding": pl.List(pl.Float32), "n_assistant_tokens": pl.Int64},
    )

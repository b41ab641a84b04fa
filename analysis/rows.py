"""The rows of a run as the metrics take them: numbers of all rows, texts and embeddings of few.

Texts and embeddings of a million rows do not fit into memory, so they are read for the rows that
are asked for, part by part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from trajweight.run import Run

FEATURES: Final = "features.parquet"
#: Columns of the trajectory table that the weight table lacks, and what else is asked of a row.
_SCALARS: Final = ("reward", "success", "n_chars", "n_tool_calls")
#: Rows whose embeddings are held at once.
_PART: Final = 65_536


def numbers_of(run: Run) -> pl.DataFrame:
    """One row a trajectory with its weight, its return, its sizes and its base loss where known.

    Raises:
        RunError: If the run lacks its trajectories or weights.
    """
    table = pl.scan_parquet(run.path_of("trajectories.parquet"))
    known = table.select("traj_id", *_SCALARS).collect()
    weights = run.table("weights").drop("content_sha256")
    rows = weights.join(known, on="traj_id", how="left", maintain_order="left")
    if not run.has(FEATURES):
        nothing = [pl.lit(None, pl.Float64).alias("base_nll"), pl.lit(False).alias("is_embedded")]
        return rows.with_columns(nothing)
    features = (
        pl.scan_parquet(run.path_of(FEATURES))
        .select("traj_id", "base_nll", pl.lit(True).alias("is_embedded"))
        .collect()
    )
    found = rows.join(features, on="traj_id", how="left", maintain_order="left")
    return found.with_columns(pl.col("is_embedded").fill_null(value=False))


def texts_of(run: Run, ids: pl.Series) -> pl.DataFrame:
    """``traj_id`` and ``messages_json`` of some rows; the texts of all others are passed over.

    Args:
        run: Whose rows they are.
        ids: Of the rows, each once or more often.
    """
    wanted = ids.unique().to_frame("traj_id")
    ids_found: list[str] = []
    texts: list[str] = []
    for part in run.trajectory_batches("messages_json"):
        found = _those(part.select("traj_id", "messages_json"), wanted)
        # Copied out: a column of a few texts would hold on to the memory of all of them.
        ids_found += found["traj_id"].to_list()
        texts += found["messages_json"].to_list()
    schema = {"traj_id": pl.String, "messages_json": pl.String}
    return pl.DataFrame([ids_found, texts], schema=schema)


def embeddings_of(run: Run, ids: pl.Series) -> pl.DataFrame | None:
    """``traj_id`` and ``embedding`` of some rows, where they are known.

    Args:
        run: Whose rows they are.
        ids: Of the rows, each once or more often.

    Returns:
        None where the run has no embeddings at all.
    """
    if not run.has(FEATURES):
        return None
    wanted = ids.unique().to_frame("traj_id")
    table = pl.scan_parquet(run.path_of(FEATURES)).select("traj_id", "embedding")
    found, first = [], 0
    while (part := table.slice(first, _PART).collect()).height or not first:
        found.append(_those(part, wanted))
        first += _PART
    return pl.concat(found)


def _those(part: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The rows of a part that are wanted."""
    return part.join(wanted, on="traj_id", how="semi")

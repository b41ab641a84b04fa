"""The trajectories that a page shows: all of a small run, of a large one those worth a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.analysis.excerpts import excerpt
from trajweight.analysis.rows import numbers_of, texts_of
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from trajweight.run import Run

#: Rows of a page; a run with more is shown in part.
MOST_ROWS: Final = 2_000
#: Characters of one trajectory; what is beyond is counted and not shown.
MOST_CHARACTERS: Final = 20_000
#: Of a part: the share of the heaviest, and as many of the lightest.
_EXTREME: Final = 0.25
_AS_THEY_ARE: Final = (
    *("source", "origin", "split", "weight", "score", "n_turns", "n_tokens", "reward", "success"),
    *("problems", "base_nll"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows of a run.

    Attributes:
        rows: As `page` takes them, the heaviest first.
        told: How they were chosen, as a sentence.
    """

    rows: list[dict[str, Any]]
    told: str


def rows_of(
    run: Run, *, most: int = MOST_ROWS, characters: int = MOST_CHARACTERS, seed: int = 0
) -> Shown:
    """The rows that a page of this run shows.

    Args:
        run: A finished run.
        most: Rows at most.
        characters: Characters of one trajectory at most.
        seed: Of the sample.
    """
    # the heaviest first, rows without a weight last
    ranked = numbers_of(run).sort("weight", "traj_id", descending=[True, False], nulls_last=True)
    chosen, told = _chosen(ranked, most, seed)
    odd = (
        pl.scan_parquet(run.path_of("trajectories.parquet"))
        .select("traj_id", "problems")
        .join(chosen.lazy().select("traj_id"), on="traj_id", how="semi")
        .collect()
    )
    texts = texts_of(run, chosen["traj_id"])
    full = chosen.join(odd, on="traj_id", how="left").join(texts, on="traj_id", how="left")
    full = full.sort("weight", "traj_id", descending=[True, False], nulls_last=True)
    return Shown([_row(each, characters) for each in full.iter_rows(named=True)], told)


def _row(found: dict[str, Any], characters: int) -> dict[str, Any]:
    """One row as the page takes it."""
    turns, n_cut = _turns(decode(found["messages_json"]), characters)
    return {
        "id": found["traj_id"],
        "task": found["task_id"],
        **{name: found[name] for name in _AS_THEY_ARE},
        "line": excerpt(found["messages_json"], limit=100),
        "turns": turns,
        "n_cut": n_cut,
    }


def _chosen(table: pl.DataFrame, most: int, seed: int) -> tuple[pl.DataFrame, str]:
    """All rows, or the heaviest, the lightest and a sample of the rest; and how, in words."""
    n = table.height
    if n <= most:
        return table, f"All {n:,} trajectories of the run."
    learned = ((pl.col("split") == "train") & (pl.col("origin") == "synthetic")).alias("learned")
    places = np.flatnonzero(table.select(learned).to_series().to_numpy())
    n_extreme = min(int(_EXTREME * most), len(places) // 2)
    extreme = np.concatenate([places[:n_extreme], places[len(places) - n_extreme :]])
    rest = np.setdiff1d(np.arange(n), extreme)
    n_drawn = most - len(extreme)
    drawn = np.random.default_rng(seed).choice(rest, n_drawn, replace=False)
    told = (
        f"{most:,} of the run's {n:,} trajectories: the {n_extreme:,} heaviest and the "
        f"{n_extreme:,} lightest synthetic training rows, and {n_drawn:,} others drawn at random "
        f"(seed {seed})."
    )
    return table[np.sort(np.concatenate([extreme, drawn]))], told


def _turns(messages: list[dict[str, Any]], characters: int) -> tuple[list[dict[str, Any]], int]:
    """The turns as the reader shows them, and how many characters were left out.

    Only what a turn has is told of it. An assistant turn is trained on unless its row says no.
    """
    turns, left, n_cut = [], characters, 0
    for message in messages:
        turn: dict[str, Any] = {"role": message["role"]}
        is_beyond = left <= 0
        said = {
            "reasoning": message.get("reasoning", ""),
            "text": message["content"],
            **{
                f"call {at}": _argument_text(call)
                for at, call in enumerate(message.get("tool_calls", ()))
            },
        }
        for name, text in said.items():
            said[name] = text[:left]
            n_cut += len(text) - len(said[name])
            left -= len(said[name])
        turn |= {name: said[name] for name in ("reasoning", "text") if said[name]}
        if message.get("tool_calls"):
            turn["calls"] = [
                {"name": call["name"], "arguments": said[f"call {at}"]}
                for at, call in enumerate(message["tool_calls"])
            ]
        if message["role"] == "assistant":
            turn["trained"] = not message.get("untrained", False)
        if not is_beyond:
            turns.append(turn)
    return turns, n_cut


def _argument_text(call: dict[str, Any]) -> str:
    """The arguments of a call as text; what was no JSON is text already."""
    arguments = call["arguments"]
    return arguments if isinstance(arguments, str) else encode(arguments)

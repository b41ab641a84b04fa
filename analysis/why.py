"""Why a trajectory weighs what it weighs: one set of facts, for the terminal and for scripts.

Where it stands among the others; what its features add to the head's score; which rows are most
like it and what those weigh. What its turns do to the outer loss needs the model, and is put beside
these facts by `turn_facts`. What cannot be said has a sentence in its place, under ``missing``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.analysis.chance import subsample
from trajweight.analysis.contributions import RowFeatures, contributions
from trajweight.analysis.excerpts import excerpt
from trajweight.analysis.facts import plain
from trajweight.analysis.lookup import traj_id_of
from trajweight.analysis.neighbours import Yardstick, nearest
from trajweight.analysis.rows import FEATURES, embeddings_of, numbers_of, texts_of
from trajweight.errors import TrajweightError
from trajweight.jsontext import decode, encode
from trajweight.run import HEAD, REPORT, load_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trajweight.run import Run

    Row = dict[str, Any]

#: Real rows, and synthetic ones, that neighbours are looked for among, at most.
MAX_CANDIDATES: Final = 50_000
#: Rows whose alignment a row's own is held against.
N_OTHERS: Final = 8
#: Features recomputed from what the run keeps give the score up to rounding; beyond this share of
#: it, head and features are of different runs.
_ROUNDING: Final = 1e-2
_AS_IT_IS: Final = (
    *("traj_id", "source", "origin", "split", "task_id", "weight", "score"),
    *("n_turns", "n_tokens", "n_tool_calls", "reward", "success", "base_nll"),
)
_NAMES: Final = {
    "embedding": "what it says (the embedding)",
    "length": "its length",
    "turns": "its number of turns",
    "base_loss": "its loss under the base model",
    "likelihood_ratio": "how much likelier real rows made it",
}


def explain(run: Run, asked: str, *, count: int = 5, seed: int = 0) -> dict[str, Any]:
    """Gather what is known of the weight of one trajectory; no model is loaded.

    Args:
        run: A run with weights.
        asked: The trajectory's id, or the beginning of it that no other id has.
        count: Neighbours of either origin.
        seed: Of the rows that are searched where there are more than 50,000.

    Returns:
        Values ready for JSON.

    Raises:
        RunError: If there is no such trajectory, or the run lacks its weights.
        ConfigError: If several ids begin so.
    """
    name = traj_id_of(run, asked)
    rows = numbers_of(run)
    row = rows.row(by_predicate=pl.col("traj_id") == name, named=True)
    learned = rows.filter((pl.col("split") == "train") & (pl.col("origin") == "synthetic"))
    learning = run.report()["learning"] if run.has(REPORT) else {}
    reason = next((one["reason"] for one in run.rows("excluded") if one["traj_id"] == name), None)
    facts: dict[str, Any] = {
        **{key: row[key] for key in _AS_IT_IS},
        "excluded_because": reason,
        "standing": _standing(row, learned),
        "interval": None if learning.get("selected") == "method" else _interval(run, name),
        **_deciding(run, row, learning),
        "contributions": _contributions(run, row, learning),
        "neighbours": _neighbours(run, row, rows, learned, count=count, seed=seed),
        "turns": {"missing": "They were not asked for: --turns loads the model for them."},
    }
    facts["headline"] = _headline(facts)
    near = [one["traj_id"] for side in ("real", "synthetic")
            for one in facts["neighbours"].get(side, {}).get("rows", ())]  # fmt: skip
    texts = texts_of(run, pl.Series([name, *near], dtype=pl.String))
    lines = {one: excerpt(text) for one, text in texts.iter_rows()}
    facts["line"] = lines.get(name, "")
    for side in ("real", "synthetic"):
        for one in facts["neighbours"].get(side, {}).get("rows", ()):
            one["line"] = lines.get(one["traj_id"], "")
    return dict(plain(facts))


def others_than(run: Run, name: str, *, count: int = N_OTHERS) -> list[str]:
    """Ids of some other synthetic training rows, evenly over the run.

    Args:
        run: The run.
        name: The row that is left out.
        count: How many, at most.
    """
    table = run.table("weights")
    is_other = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    ids = table.filter(is_other & (pl.col("traj_id") != name))["traj_id"]
    places = np.unique(np.linspace(0, max(len(ids) - 1, 0), min(count, len(ids))).astype(int))
    return [str(ids[int(place)]) for place in places]


def turn_facts(
    run: Run,
    name: str,
    *,
    d: float,
    turns: Sequence[tuple[int, int, float]],
    others: Sequence[float],
) -> dict[str, Any]:
    """What the turns of a row do to the outer loss, with the first words of each.

    Args:
        run: The run.
        name: The row's id.
        d: dL_val / dw of the row.
        turns: Place, assistant tokens and part of d of each turn that is trained on.
        others: The d of other rows.
    """
    text = texts_of(run, pl.Series([name]))["messages_json"][0]
    messages = decode(text)
    return dict(
        plain(
            {
                "missing": None,
                "d": d,
                "turns": [
                    {
                        "turn": place + 1,
                        "n_tokens": n_tokens,
                        "d": part,
                        "line": excerpt(encode([messages[place]])),
                    }
                    for place, n_tokens, part in turns
                ],
                "others": list(others),
                "told": _turns_told(d, turns, others),
            }
        )
    )


def trained_run(run: Run) -> Run | None:
    """The run whose head gave the weights: this one, or the one it names.

    Returns:
        None where that run is gone, or was made again and has another head.
    """
    if run.has(HEAD) or not run.has(REPORT):
        return run
    learning = run.report()["learning"]
    named = learning.get("trained_run")
    if named is None:
        return run
    try:
        found = load_run(Path(named))
        digest = found.head_arrays()[1]["head_sha256"]
    except TrajweightError:
        return None
    # runs of an older trajweight do not say whose head it was
    return found if digest == learning.get("trained_head_sha256", digest) else None


def _standing(row: Row, learned: pl.DataFrame) -> dict[str, Any] | None:
    """Rank and percentile among the synthetic training rows, and the mean of its source."""
    if row["weight"] is None or row["origin"] != "synthetic":
        return None
    weights = learned["weight"].to_numpy()
    lighter, equal = int((weights < row["weight"]).sum()), int((weights == row["weight"]).sum())
    mine = learned.filter(pl.col("source") == row["source"])["weight"]
    return {
        "rank": len(weights) - lighter - equal + 1,
        "of": len(weights),
        "equal": equal,
        "percentile": 100.0 * (lighter + 0.5 * equal) / len(weights),
        "source_n": len(mine),
        "source_mean": mine.mean(),
        "source_rank": int((mine > row["weight"]).sum()) + 1,
    }


def _interval(run: Run, name: str) -> dict[str, Any] | None:
    """The range of the weight over the heads of an ensemble, where there is one."""
    if not run.has("ensemble.parquet"):
        return None
    table = pl.scan_parquet(run.path_of("ensemble.parquet"))
    found = table.filter(pl.col("traj_id") == name).collect()
    if not found.height:
        return None
    [one] = found.iter_rows(named=True)
    return {"low": one["weight_low"], "high": one["weight_high"], "members": one["weights"]}


def _deciding(run: Run, row: Row, learning: dict[str, Any]) -> dict[str, Any]:
    """What gave the weight its value, as a word and as a sentence."""
    if row["weight"] is None:
        told = f"Only rows of split train have a weight, and this one is of split {row['split']}."
        return {"decided_by": "nothing", "decision": told}
    if row["origin"] == "real":
        told = "Every real training row carries the constant that keeps their share of the mass."
        return {"decided_by": "constant", "decision": told}
    selected = learning.get("selected") or (run.head_arrays()[1]["selected"] if run.has(HEAD)
                                            else "uniform")  # fmt: skip
    why = learning.get("why_uniform")
    has_prior = "prior" in (learning.get("returns") or {})
    if selected == "head":
        told = "The head's score gives the weight"
        told += ", times what its return makes of it." if has_prior else "."
    elif selected == "method":
        told = f"The method {learning['method']} gives the weight; nothing learned decides it."
    elif selected == "returns":
        told = "Its return alone gives the weight; what the head says decides nothing."
    else:
        told = "Every weight is one; what the head says decides nothing."
    if why and selected != "head":
        told = f"No head decides: {why.rstrip('.')}."
    return {"decided_by": selected, "decision": told}


def _contributions(run: Run, row: Row, learning: dict[str, Any]) -> dict[str, Any]:
    """What the features add to the score, or why that cannot be said."""
    trained = trained_run(run)
    if trained is None:
        return _missing(
            f"The run that learned the head, {learning['trained_run']}, is gone or another."
        )
    if not trained.has(HEAD):
        if learning.get("mode") == "method":
            return _missing(f"The method {learning['method']} gave the score; no head was learned.")
        return _missing("No head was learned, so there is no score.")
    try:
        arrays, config = trained.head_arrays()
    except TrajweightError as error:
        return _missing(f"The head cannot be read: {error.message}.")
    kind = config["shape"]["kind"]
    if kind in ("table", "group"):
        what = "row" if kind == "table" else "source"
        told = f"A {kind} head reads no features: it holds one score for every {what}"
        score = "" if row["score"] is None else f", {row['score']:+.3f} for this one"
        return _missing(f"{told}{score}.")
    if "adapter_of" not in config or "ratio_later" not in config.get("features", ()):
        return _missing("An older trajweight wrote the head and described it otherwise.")
    if row["score"] is None:
        took = "took no part" if row["split"] == "excluded" else "was not read by the head"
        return _missing(f"The row {took}, so it has no score.")
    if not run.has(FEATURES):
        return _missing("The run has no features.parquet, from which the head reads.")
    read = _features(run, row)
    if read is None:
        return _missing(
            "features.parquet lacks losses that features are made of: an older trajweight wrote "
            "it. Run it again to have them."
        )
    found = contributions(arrays, config, read)
    if abs(found.score - row["score"]) > _ROUNDING * max(1.0, abs(row["score"])):
        return _missing(
            f"The head gives this row a score of {found.score:.3f}, and weights.parquet holds "
            f"{row['score']:.3f}: head and features are of different runs."
        )
    strong = [one for one in found.parts if one.adds][:2]
    what = " and ".join(f"{_NAMES[one.name]} ({one.adds:+.2f})" for one in strong)
    told = f"Most comes from {what}." if strong else "It is scored as the mean training row is."
    return {"missing": None, **found.as_dict(), "told": told}


def _features(run: Run, row: Row) -> RowFeatures | None:
    """What the heads read of a row; None where the run does not hold all of it."""
    table = pl.scan_parquet(run.path_of(FEATURES))
    if "real_nll_later" not in table.collect_schema():
        return None
    [one] = table.filter(pl.col("traj_id") == row["traj_id"]).collect().iter_rows(named=True)
    kinds = ("", "_first", "_later")
    return RowFeatures(
        embedding=np.array(one["embedding"], dtype=np.float64),
        n_tokens=row["n_tokens"],
        n_turns=row["n_turns"],
        base=np.array([one[f"base_nll{kind}"] for kind in kinds]),
        real=np.array([one[f"real_nll{kind}"] for kind in kinds]).T,
    )


def _neighbours(
    run: Run, row: Row, rows: pl.DataFrame, learned: pl.DataFrame, *, count: int, seed: int
) -> dict[str, Any]:
    """The rows that are most like it: real ones of any split, and synthetic training rows."""
    if not run.has(FEATURES):
        return _missing("The run has no embeddings: no model was loaded for it.")
    if not row["is_embedded"]:
        return _missing("The row took no part, so it has no embedding.")
    known = pl.col("is_embedded") & (pl.col("traj_id") != row["traj_id"])
    sides = {
        "real": rows.filter((pl.col("origin") == "real") & known),
        "synthetic": learned.filter(known),
    }
    drawn = {
        side: table[subsample(table.height, MAX_CANDIDATES, seed=seed)]
        for side, table in sides.items()
    }
    ids = [pl.Series([row["traj_id"]]), *(table["traj_id"] for table in drawn.values())]
    vectors = embeddings_of(run, pl.concat(ids).alias("traj_id"))
    assert vectors is not None  # the file is there
    # the measure, and so the neighbours, are those of the rows that are searched
    held = {side: _vectors(vectors, table["traj_id"]) for side, table in drawn.items()}
    mine = _vectors(vectors, ids[0])
    yardstick = Yardstick.of(mine, *(each for each in held.values() if len(each)), seed=seed)
    found: dict[str, Any] = {"missing": None}
    for side, table in drawn.items():
        near = nearest(mine, held[side], yardstick, count=count).of[0] if table.height else ()
        found[side] = {
            "n_candidates": sides[side].height,
            "n_searched": table.height,
            "rows": [
                {
                    **table.select("traj_id", "source", "split", "weight").row(one.row, named=True),
                    "similarity": one.similarity,
                }
                for one in near
            ],
        }
    return found


def _vectors(vectors: pl.DataFrame, ids: pl.Series) -> NDArray[np.float32]:
    """Embeddings in the order of some ids: (n, d)."""
    wanted = ids.to_frame("traj_id")
    found = wanted.join(vectors, on="traj_id", how="left", maintain_order="left")["embedding"]
    if not len(found):
        return np.empty((0, len(vectors["embedding"][0])), dtype=np.float32)
    width = len(found[0])
    return found.explode().to_numpy().reshape(len(found), width).astype(np.float32)


def _missing(why: str) -> dict[str, Any]:
    return {"missing": why}


def _headline(facts: dict[str, Any]) -> str:
    """One sentence on where it stands."""
    standing, weight = facts["standing"], facts["weight"]
    if weight is None:
        because = f": {facts['excluded_because']}" if facts["excluded_because"] else ""
        return f"A {facts['origin']} trajectory of split {facts['split']} has no weight{because}."
    if standing is None:
        return f"A real training trajectory: it weighs {weight:.2f}, as every one of them does."
    among = f"{standing['of']:,} synthetic training trajectories"
    if standing["equal"] == standing["of"]:
        return f"It weighs {weight:.2f}, as all {among} do."
    share = 100.0 * (standing["of"] - standing["rank"] - standing["equal"] + 1) / standing["of"]
    return (
        f"It weighs {weight:.2f}: rank {standing['rank']:,} of {among}, heavier than "
        f"{share:.0f}% of them."
    )


def _turns_told(
    d: float, turns: Sequence[tuple[int, int, float]], others: Sequence[float]
) -> list[str]:
    """What the numbers say, as sentences."""
    verb = "lowers" if d < 0 else "raises" if d > 0 else "does not move"
    told = [f"A step on this row {verb} the loss on real validation rows (d {d:+.2e})."]
    if others:
        lower = sum(other > d for other in others)
        told.append(
            f"Of {len(others)} other synthetic training rows {lower} help less; theirs go from "
            f"{min(others):+.2e} to {max(others):+.2e}."
        )
    if len(turns) > 1 and any(part for *_, part in turns):
        place, _, part = max(turns, key=lambda one: abs(one[2]))
        does = "helps" if part < 0 else "hurts"
        told.append(f"The turn that counts most is turn {place + 1}, which {does}.")
    if not math.isfinite(d):
        told = ["The gradient is not finite there, so nothing can be said."]
    return told

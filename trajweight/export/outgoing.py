"""Which rows go out and what they count: filtered, brought to mean one, dialled, and by the token.

Weights were learned under a sequence-mean loss. A loss that sums over tokens does the same when
each weight is multiplied by mean(T) / T_i, T the tokens of a row that are trained on; the mean of
such weights over the exported tokens is one, so that steps are as long as without weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from trajweight.dial import Dialled, turn_dial
from trajweight.errors import ConfigError, RunError
from trajweight.selection import reasons_left_out
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.dial import How
    from trajweight.run import Run
    from trajweight.selection import Filters

#: Of the trajectory table, what an export asks for; a million rows of these are held.
_COLUMNS: Final = (
    *("traj_id", "content_sha256", "source", "origin", "task_id", "n_chars", "origin_rows"),
)
#: About how many characters a token spells, where no tokens were counted.
_CHARS_PER_TOKEN: Final = 4.0
_LEARNED: Final = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The rows that go out, without their texts.

    Attributes:
        rows: In the order of the run: ``place`` (their number among the run's rows, from 0),
            ``traj_id``, ``content_sha256``, ``source``, ``origin``, ``split``, ``task_id``,
            ``n_chars``, ``trained_tokens``, ``weight`` and ``token_weight``; both weights are null
            where the split is not train.
        n_in_run: Rows of the run.
        n_left_out: Reason to number of rows; with the rows they add up to those of the run.
        mass_kept: Share of the learned weight that goes out, 0 to 1.
        mean_tokens: Mean of ``trained_tokens``.
        dialled: What the dial did; None where none was asked for.
        n_guessed: Rows whose tokens were guessed, since they were never counted.
    """

    rows: pl.DataFrame
    n_in_run: int
    n_left_out: dict[str, int]
    mass_kept: float
    mean_tokens: float
    dialled: Dialled | None
    n_guessed: int

    @property
    def ess_fraction(self) -> float | None:
        """ESS over the number of weighted rows; None where no row has a weight."""
        weights = self.rows["weight"].drop_nulls().to_numpy()
        return float(effective_sample_size(weights)) / weights.size if weights.any() else None


def outgoing(
    run: Run,
    filters: Filters,
    *,
    target_ess: float | None = None,
    how: How = "temper",
    are_equal: bool = False,
    refuses: pl.Expr | None = None,
    refused: Mapping[int, str] | None = None,
) -> Outgoing:
    """Choose the rows of a run that go out, and say what each counts.

    Args:
        run: The run.
        filters: Which rows.
        target_ess: Least ESS, as a share of the weighted rows; the dial is turned to reach it.
        how: How the dial does it, see `dial.turn_dial`.
        are_equal: All rows that go out count alike, whatever they were found to be worth.
        refuses: Why the target cannot read a row, where that is told without its texts.
        refused: By place, why the target cannot read a row; such rows stay out too.

    Raises:
        ConfigError: If no row is left, or the dial's target cannot be meant.
        RunError: If the run lacks its weights, or they belong to other rows.
    """
    rows = weighted_rows(run)
    reasons = reasons_left_out(rows, filters)
    if refuses is not None:
        reasons = reasons.zip_with(reasons.is_not_null(), rows.select(refuses).to_series())
    if refused:
        also = pl.Series([refused.get(place) for place in range(rows.height)], dtype=pl.String)
        reasons = reasons.zip_with(reasons.is_not_null(), also)
    chosen = rows.filter(reasons.is_null())
    left_out = dict(sorted(Counter(reasons.drop_nulls().to_list()).items()))
    if chosen.is_empty():
        listed = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no rows"
        message = f"no row is left to export: {listed}."
        raise ConfigError(message, hint="Loosen the filters.")
    chosen, n_guessed = _with_tokens(run, chosen)
    weights = chosen["weight"].drop_nulls().to_numpy()
    weights = np.ones_like(weights) if are_equal or not weights.size else weights / weights.mean()
    dialled = turn_dial(weights, target_ess, how) if target_ess is not None else None
    chosen, mean_tokens = _weighted(chosen, weights if dialled is None else dialled.weights)
    return Outgoing(
        rows=chosen,
        n_in_run=rows.height,
        n_left_out=left_out,
        mass_kept=_share_of_mass(rows.filter(reasons.is_null()), rows),
        mean_tokens=mean_tokens,
        dialled=dialled,
        n_guessed=n_guessed,
    )


def weighted_rows(run: Run) -> pl.DataFrame:
    """The rows of a run in their order with ``place``, split and weight, without their texts.

    Raises:
        RunError: If weights and rows do not belong together.
    """
    table = run.columns("trajectories", *_COLUMNS).with_row_index("place")
    weights = run.table("weights").select("traj_id", "content_sha256", "split", "weight")
    rows = table.join(weights, on=["traj_id", "content_sha256"], how="inner", maintain_order="left")
    if not rows.height == table.height == weights.height:
        message = (
            f"weights.parquet ({weights.height} rows) and trajectories.parquet ({table.height} "
            f"rows) agree in {rows.height} rows only"
        )
        raise RunError(message, path=run.folder, hint="Run it again into this folder with --force.")
    return rows


def _with_tokens(run: Run, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The rows with ``trained_tokens``, counted by the run's tokenizer; how many had to guess."""
    columns = {"traj_id": pl.String, "n_assistant_tokens": pl.Int64}
    counted = pl.DataFrame(schema=columns)
    if run.has("features.parquet"):  # not the embeddings, which are long
        counted = run.columns("features", *columns)
    joined = rows.join(counted, on="traj_id", how="left", maintain_order="left")
    known = joined.filter(pl.col("n_assistant_tokens").is_not_null())
    n_tokens, n_chars = (int(known[name].sum()) for name in ("n_assistant_tokens", "n_chars"))
    guess = pl.col("n_chars") * (n_tokens / n_chars if n_chars else 1 / _CHARS_PER_TOKEN)
    tokens = pl.coalesce(pl.col("n_assistant_tokens").cast(pl.Float64), guess).clip(lower_bound=1.0)
    made = joined.with_columns(tokens.alias("trained_tokens")).drop("n_assistant_tokens")
    return made, joined.height - known.height


def _weighted(rows: pl.DataFrame, weights: np.ndarray) -> tuple[pl.DataFrame, float]:
    """The rows with both weights, and the mean of their trained tokens."""
    has_weight = rows["weight"].is_not_null().to_numpy()
    tokens = rows["trained_tokens"].to_numpy()
    mean_tokens = float(tokens[has_weight].mean()) if has_weight.any() else float(tokens.mean())
    by_row, by_token = np.full(rows.height, np.nan), np.full(rows.height, np.nan)
    by_row[has_weight] = weights
    by_token[has_weight] = weights * mean_tokens / tokens[has_weight]
    columns = [
        pl.Series("weight", by_row).fill_nan(None),
        pl.Series("token_weight", by_token).fill_nan(None),
    ]
    return rows.with_columns(columns), mean_tokens


def _share_of_mass(chosen: pl.DataFrame, rows: pl.DataFrame) -> float:
    """The part of the learned weight that goes out."""
    whole = float(rows.filter(_LEARNED)["weight"].sum())
    return float(chosen.filter(_LEARNED)["weight"].sum()) / whole if whole else 0.0

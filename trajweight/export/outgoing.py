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
from trajweight.errors import ConfigError
from trajweight.export.rowfacts import row_facts, trained_tokens
from trajweight.selection import reasons_left_out
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trajweight.dial import How
    from trajweight.export.refusals import Refusals
    from trajweight.run import Run
    from trajweight.selection import Filters

#: About how many characters a token spells, where no tokens were counted.
_CHARS_PER_TOKEN: Final = 4.0
_LEARNED: Final = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The rows that go out, in numbers alone, so that millions of them are little to hold.

    Attributes:
        rows: In the order of the run: ``place`` (their number among the run's rows, from 0),
            ``split``, ``weight`` and ``token_weight``; both weights are null where the split is
            not train.
        n_in_run: Rows of the run.
        n_left_out: Reason to number of rows; with the rows they add up to those of the run.
        mass_kept: Share of the learned weight that goes out, 0 to 1.
        mean_tokens: Mean of the tokens of a row that are trained on.
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

    def beside(self, pieces: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Of each piece of the run's rows those that go out, and the same of ``rows``."""
        places = self.rows["place"].to_numpy()
        first = 0
        for piece in pieces:
            begin, end = np.searchsorted(places, (first, first + piece.height)).tolist()
            yield piece[places[begin:end] - first], self.rows[begin:end]
            first += piece.height


def outgoing(
    run: Run,
    filters: Filters,
    *,
    target_ess: float | None = None,
    how: How = "temper",
    are_equal: bool = False,
    refuses: pl.Expr | None = None,
    refused: Refusals | None = None,
) -> Outgoing:
    """Choose the rows of a run that go out, and say what each counts.

    Args:
        run: The run.
        filters: Which rows.
        target_ess: Least ESS, as a share of the weighted rows; the dial is turned to reach it.
        how: How the dial does it, see `dial.turn_dial`.
        are_equal: All rows that go out count alike, whatever they were found to be worth.
        refuses: Why the target cannot read a row, where that is told without its texts.
        refused: Rows that the target cannot read; they stay out too.

    Raises:
        ConfigError: If no row is left, or the dial's target cannot be meant.
        RunError: If the run lacks its weights, or they belong to other rows.
    """
    rows = row_facts(
        run, refuses=refuses, with_source=bool(filters.quotas), are_ranked=filters.ranks
    )
    stays, left_out = _staying(rows, filters, refused)
    chosen = rows.select("split", "origin", "weight", "n_chars").filter(pl.Series(stays))
    n_in_run, mass = rows.height, _learned_mass(rows)
    del rows  # with all that was needed to choose
    if chosen.is_empty():
        listed = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no rows"
        message = f"no row is left to export: {listed}."
        raise ConfigError(message, hint="Loosen the filters.")
    mass_kept = _learned_mass(chosen) / mass if mass else 0.0
    tokens, n_guessed = _tokens(chosen["n_chars"], trained_tokens(run), stays)
    weights = chosen["weight"].drop_nulls().to_numpy()
    weights = np.ones_like(weights) if are_equal or not weights.size else weights / weights.mean()
    dialled = turn_dial(weights, target_ess, how) if target_ess is not None else None
    columns, mean_tokens = _weighted(
        chosen["weight"].is_not_null().to_numpy(),
        tokens,
        weights if dialled is None else dialled.weights,
    )
    place = pl.Series("place", np.flatnonzero(stays), dtype=pl.UInt32)
    return Outgoing(
        rows=pl.DataFrame([place, chosen["split"], *columns]),
        n_in_run=n_in_run,
        n_left_out=left_out,
        mass_kept=mass_kept,
        mean_tokens=mean_tokens,
        dialled=dialled,
        n_guessed=n_guessed,
    )


def _staying(
    rows: pl.DataFrame, filters: Filters, refused: Refusals | None
) -> tuple[np.ndarray, dict[str, int]]:
    """By place whether a row goes out; and why how many of the others do not."""
    reasons = reasons_left_out(rows, filters)
    stays = reasons.is_null().to_numpy().copy()
    counts = _counted(reasons)
    if "refusal" in rows.columns:
        refusals = rows["refusal"]
        counts += _counted(refusals.filter(pl.Series(stays)))
        stays &= refusals.is_null().to_numpy()
    if refused is not None:
        counts += refused.take_out(stays)
    return stays, dict(sorted(counts.items()))


def _counted(reasons: pl.Series) -> Counter[str]:
    """How many rows have which reason."""
    return Counter(dict(reasons.drop_nulls().value_counts().iter_rows()))


def _tokens(
    n_chars: pl.Series, counted: pl.Series | None, stays: np.ndarray
) -> tuple[np.ndarray, int]:
    """The trained tokens of the rows that go out, one at least; and how many had to be guessed.

    Args:
        n_chars: Characters of the rows that go out.
        counted: Of all rows of the run, as the run's tokenizer counted them.
        stays: Which of these go out.
    """
    if counted is None:
        known = pl.repeat(None, n_chars.len(), dtype=pl.Int64, eager=True)
    else:
        known = counted.filter(pl.Series(stays))
    is_known = known.is_not_null()
    n_known_tokens, n_known_chars = int(known.sum()), int(n_chars.filter(is_known).sum())
    per_char = n_known_tokens / n_known_chars if n_known_chars else 1 / _CHARS_PER_TOKEN
    tokens = known.cast(pl.Float64).zip_with(is_known, n_chars * per_char).clip(lower_bound=1.0)
    return tokens.to_numpy(), known.null_count()


def _weighted(
    has_weight: np.ndarray, tokens: np.ndarray, weights: np.ndarray
) -> tuple[list[pl.Series], float]:
    """Both weights of the rows that go out, and the mean of their trained tokens."""
    trained = tokens[has_weight]
    mean_tokens = float(trained.mean() if trained.size else tokens.mean())
    columns = []
    for name, values in (
        ("weight", weights),
        ("token_weight", weights * mean_tokens / trained),
    ):
        column = np.full(tokens.size, np.nan)
        column[has_weight] = values
        columns.append(pl.Series(name, column).fill_nan(None))
    return columns, mean_tokens


def _learned_mass(rows: pl.DataFrame) -> float:
    return float(rows.filter(_LEARNED)["weight"].sum())

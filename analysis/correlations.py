"""Whether something simple explains the weights: rank correlation with length, turns, base loss.

Length is the field's most common artefact: a scorer that only sees how long a trajectory is can
look as if it saw quality. So it is measured in every report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A rank correlation beyond this, either way, is a warning.
WARN_BEYOND: Final = 0.5


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation of the weight with one column.

    Attributes:
        column: The column.
        rho: From -1 to 1; None where either side is constant or fewer than three rows count.
        n: Rows that count: those where both values are finite numbers.
    """

    column: str
    rho: float | None
    n: int

    @property
    def is_suspicious(self) -> bool:
        """Whether the column may explain the weights."""
        return self.rho is not None and abs(self.rho) > WARN_BEYOND


def rank_correlations(table: pl.DataFrame, columns: Sequence[str]) -> list[RankCorrelation]:
    """Spearman's correlation of ``weight`` with each of the columns.

    Args:
        table: One row a trajectory, with ``weight`` and the columns.
        columns: Numeric columns; nulls and numbers that are not finite do not count.
    """
    found = []
    for column in columns:
        both = table.select(pl.col("weight", column).cast(pl.Float64))
        both = both.filter(pl.all_horizontal(pl.all().is_finite()))
        rho = spearman(both["weight"], both[column])
        found.append(RankCorrelation(column, rho, both.height))
    return found


def spearman(x: pl.Series, y: pl.Series) -> float | None:
    """Pearson's correlation of average ranks; None for a constant side or fewer than three rows.

    Reference:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    if len(x) < 3 or x.n_unique() == 1 or y.n_unique() == 1:
        return None
    ranks = np.stack([side.rank("average").to_numpy() for side in (x, y)])  # (2, n)
    return float(np.clip(np.corrcoef(ranks)[0, 1], -1.0, 1.0))

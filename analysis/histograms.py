"""How the weights of each source are distributed, in bars that are the same for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import codes_of

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Lower edges of the bars, the same for all sources and runs; the last bar is open. The mean of
#: all weights is one, so the edges mean the same everywhere.
BIN_EDGES: Final = tuple(i / 5 for i in range(16))


@dataclass(frozen=True, slots=True)
class Histogram(Facts):
    """The bars of one group.

    Attributes:
        group: Its name.
        counts: Rows in each bar.
        row_shares: The same over the rows of the group; they add up to 1.
        mass_shares: The group's mass by bar, over its mass; they add up to 1, or are 0 where the
            group has no mass.
    """

    group: str
    counts: tuple[int, ...]
    row_shares: tuple[float, ...]
    mass_shares: tuple[float, ...]


def histogram(weights: Floats, group: str = "all") -> Histogram:
    """The bars of one set of weights.

    Args:
        weights: Non-negative weights. Shape (n,).
        group: What to call the set.

    Example:
        >>> histogram(np.array([0.0, 1.0, 1.1, 40.0])).counts
        (1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    """
    return _histograms(weights, np.zeros(len(weights), dtype=np.int64), [group])[0]


def histograms_by(table: pl.DataFrame, column: str) -> dict[str, Histogram]:
    """The bars of each group, by name.

    Args:
        table: A table with ``weight`` (no nulls) and the grouping column.
        column: Name of the grouping column; rows without a name are in no group.
    """
    codes, names = codes_of(table[column])
    named = codes < len(names)
    found = _histograms(table["weight"].to_numpy()[named], codes[named], names)
    return {one.group: one for one in found}


def bins_of(weights: Floats) -> Ints:
    """The bar each weight stands in; rounded first, so that a one made by division is one."""
    return np.searchsorted(np.array(BIN_EDGES), np.round(weights, 9), side="right") - 1


def _histograms(weights: Floats, codes: Ints, names: list[str]) -> list[Histogram]:
    """The bars of every group at once."""
    shape = (len(names), len(BIN_EDGES))
    cells = codes * len(BIN_EDGES) + bins_of(weights)
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    mass = np.bincount(cells, weights, minlength=shape[0] * shape[1]).reshape(shape)
    shares = [
        part / np.where(part.sum(axis=1) > 0, part.sum(axis=1), 1.0)[:, None]
        for part in (counts, mass)
    ]
    return [
        Histogram(name, tuple(counts[at].tolist()), *(tuple(part[at].tolist()) for part in shares))
        for at, name in enumerate(names)
    ]

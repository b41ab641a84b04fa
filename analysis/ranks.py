"""Average ranks with counts: a row that was drawn twice counts as two equal rows.

Sorting is done once. Every resample of the same rows is then a matter of adding up counts, which
is what makes a bootstrap of rank statistics cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ordered:
    """How values stand, from the least to the greatest.

    Attributes:
        order: Rows from the least value to the greatest. Shape (n,).
        starts: Where each run of equal values begins in that order. Shape (g,).
        run: The run of each row. Shape (n,).
    """

    order: Ints
    starts: Ints
    run: Ints

    def sums(self, counts: Floats) -> Floats:
        """Counts added up inside each run of equal values: (k, n) to (k, g)."""
        if len(self.starts) == len(self.order):  # no two are equal
            return counts[:, self.order]
        found: Floats = np.add.reduceat(counts[:, self.order], self.starts, axis=1)
        return found

    def ranks(self, counts: Floats) -> Floats:
        """The average rank of each row, each standing there as often as its count says.

        A run of C equal rows behind B others has the rank B + (C + 1) / 2.

        Args:
            counts: How often each row stands there, a resample a line. Shape (k, n).

        Returns:
            From 1 on; of no meaning for a row of count zero. Shape (k, n).
        """
        inside = self.sums(counts)  # (k, g)
        ranks = np.cumsum(inside, axis=1)
        ranks -= (inside - 1.0) / 2.0
        return ranks[:, self.run]


def ordered(values: Floats) -> Ordered:
    """Sort rows by their values.

    Args:
        values: Finite, at least one. Shape (n,).
    """
    order = np.argsort(values, kind="stable")
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = values[order][1:] != values[order][:-1]
    run = np.empty(len(order), dtype=np.int64)
    run[order] = np.cumsum(is_new) - 1
    return Ordered(order, np.flatnonzero(is_new), run)


def average_ranks(values: Floats) -> Floats:
    """Ranks from 1 on, equal values sharing the mean of theirs. Shape (n,).

    Example:
        >>> average_ranks(np.array([5.0, 2.0, 5.0]))
        array([2.5, 1. , 2.5])
    """
    if len(values) == 0:
        return np.zeros(0)
    ranks: Floats = ordered(values).ranks(np.ones((1, len(values))))[0]
    return ranks

"""Nearest real rows by meaning: the mean cosine with the k nearest in the frozen model.

A row is the mean last hidden state over its assistant tokens. A few coordinates of hidden states
are large in every row and would decide every cosine alone, so each coordinate is first brought to
mean zero and deviation one over all rows, real and synthetic; ``standardised=False`` leaves that
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.scorers.grounds import embeddings_of
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.scorers.scorer import Needs, Pool

    Floats = NDArray[np.float64]

#: Cosines held at once: 64 MiB.
_CELLS: Final = 2**23


@dataclass(frozen=True, slots=True)
class EmbeddingNeighbours:
    """Likeness to the nearest real rows.

    Attributes:
        k: Real rows that are looked at; all where there are fewer.
        standardised: Whether every coordinate counts alike.
    """

    k: int = 5
    standardised: bool = True
    name: str = "embedding-knn"
    sentence: str = "Likeness of a row to its 5 nearest real rows in the frozen model's states."
    needs: Needs = "model"

    def score(self, pool: Pool) -> Scored:
        """Mean cosines, from -1 to 1.

        Raises:
            ConfigError: If there are no real rows.
        """
        synthetic, real = embeddings_of(pool, self.name)
        if self.standardised:
            every = np.concatenate([synthetic, real])
            centre, spread = every.mean(0), every.std(0)
            spread[spread <= 1e-6 * np.abs(every).max(0)] = np.inf  # constant but for rounding
            synthetic, real = (synthetic - centre) / spread, (real - centre) / spread
        synthetic, real = _unit(synthetic), _unit(real)
        n, m = len(synthetic), len(real)
        k = min(self.k, m)
        scores = np.zeros(n)
        step = max(_CELLS // m, 1)
        for first in range(0, n, step):
            cosines = synthetic[first : first + step] @ real.T  # (at most step, m)
            nearest = np.partition(cosines, m - k, axis=1)[:, m - k :]
            scores[first : first + step] = nearest.mean(axis=1)
        return Scored(scores)


def _unit(rows: Floats) -> Floats:
    """Rows of length one; one that is zero stays so: (n, d) to (n, d)."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)

"""Real or synthetic, by meaning: odds of a classifier on the frozen model's states.

As `trajweight.scorers.classifier`, on mean last hidden states over the assistant tokens. They are
whitened over all rows, real and synthetic, which looks at no side: their first principal components
are brought to deviation one, so that the penalty means the same for each. Copies, known by their
tokens, come into one fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.scorers.classifier import cross_fitted
from trajweight.scorers.grounds import embeddings_of, real_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.scorers.scorer import Needs, Pool, Scored

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EmbeddingClassifier:
    """Odds of being real, cross-fitted.

    Attributes:
        n_folds: Fewer where there are fewer different rows on a side.
        components: Principal components that are looked at, at most.
        penalty: Of the squared slopes.
    """

    n_folds: int = 5
    components: int = 32
    penalty: float = 10.0
    name: str = "embedding-classifier"
    sentence: str = (
        "Odds that a row is real and not synthetic (cross-fitted logistic regression on the frozen "
        "model's whitened states)."
    )
    needs: Needs = "model"

    def score(self, pool: Pool) -> Scored:
        """Log odds, and the odds as weights.

        Raises:
            ConfigError: If there are fewer than two different rows on a side.
        """
        synthetic, real = embeddings_of(pool, self.name)
        ground = pool.ground()

        def texts(rows: list[int]) -> list[str]:
            return [str(ground.material.encoded[row].input_ids) for row in rows]

        rows = np.concatenate([real, synthetic])
        return cross_fitted(
            texts(real_rows(ground, self.name)),
            texts(ground.material.synthetic),
            lambda order: whitened(rows[order], components=self.components),
            name=self.name,
            n_folds=self.n_folds,
            penalty=self.penalty,
            seed=pool.seed,
        )


def whitened(rows: Floats, *, components: int) -> Floats:
    """The first principal components, uncorrelated and each of deviation one: (n, d) to (n, k).

    Args:
        rows: Two at least.
        components: k at most; directions in which rows do not differ but for rounding are left out.
    """
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    kept = int((lengths[:components] > 1e-6 * max(lengths[0], 1e-30)).sum())
    found: Floats = left[:, :kept] * np.sqrt(len(rows))
    return found

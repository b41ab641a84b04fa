"""Nearest real rows by words: the mean cosine of a row's TF-IDF with those of its k nearest.

What the assistant says is read; the inverse document frequencies are those of all rows, real and
synthetic. A row may be near for its task alone, whatever was done in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.scorers.grams import grams_of
from trajweight.scorers.scorer import Scored
from trajweight.scorers.texts import require_real, texts_of
from trajweight.scorers.tfidf import tf_idf

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool

#: Cosines held at once: 64 MiB.
_CELLS: Final = 2**23


@dataclass(frozen=True, slots=True)
class TextNeighbours:
    """Likeness to the nearest real rows.

    Attributes:
        k: Real rows that are looked at; all where there are fewer.
    """

    k: int = 5
    name: str = "text-knn"
    sentence: str = "Likeness of what the assistant says to its 5 nearest real rows (TF-IDF)."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """Mean cosines, from 0 to 1; zero for a row without words.

        Raises:
            ConfigError: If there are no real rows.
        """
        require_real(pool, self.name)
        n, m = len(pool.synthetic), len(pool.real)
        texts = texts_of(pool.synthetic, "assistant") + texts_of(pool.real, "assistant")
        matrix = tf_idf(grams_of(texts, with_pairs=False))
        synthetic, real = matrix[:n], matrix[n:].T.tocsr()
        k = min(self.k, m)
        scores = np.zeros(n)
        step = max(_CELLS // m, 1)
        for first in range(0, n, step):
            cosines = (synthetic[first : first + step] @ real).toarray()  # (at most step, m)
            nearest = np.sort(np.partition(cosines, m - k, axis=1)[:, m - k :], axis=1)
            scores[first : first + step] = nearest.mean(axis=1)
        return Scored(scores)

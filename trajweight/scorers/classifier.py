"""Real or synthetic? The odds that a classifier gives a row it was not trained on.

Logistic regression on TF-IDF of words and pairs of words that the assistant says, with both sides
counting alike, so that the odds p(real) / p(synthetic) estimate the ratio of the two densities,
which is the weight (Bickel, Brueckner and Scheffer 2007; Sugiyama, Suzuki and Kanamori 2012). Rows
are dealt into folds, copies of one text into the same, and each is judged by a classifier that saw
the other folds alone: one that had seen it would know it for synthetic. Only the words' document
frequencies, which know no side, come from all rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trajweight.errors import ConfigError
from trajweight.scorers.grams import grams_of
from trajweight.scorers.scorer import Scored, from_logs
from trajweight.scorers.texts import require_real, texts_of
from trajweight.scorers.tfidf import fitted_logistic, tf_idf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trajweight.scorers.scorer import Needs, Pool

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Classifier:
    """Odds of being real, cross-fitted.

    Attributes:
        n_folds: Fewer where there are fewer different texts on a side.
        n_terms: Words and pairs that are looked at: the most frequent ones.
        penalty: Of the squared slopes.
    """

    n_folds: int = 5
    n_terms: int = 50_000
    penalty: float = 1.0
    name: str = "classifier"
    sentence: str = (
        "Odds that what the assistant says is real and not synthetic (cross-fitted logistic "
        "regression on TF-IDF of words and pairs)."
    )
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """Log odds, and the odds as weights.

        Raises:
            ConfigError: If there are fewer than two different texts on a side.
        """
        require_real(pool, self.name)
        synthetic, real = (texts_of(rows, "assistant") for rows in (pool.synthetic, pool.real))
        texts = [*real, *synthetic]

        def matrix_of(order: Ints) -> Any:
            grams = grams_of([texts[row] for row in order], with_pairs=True)
            return tf_idf(grams, n_terms=self.n_terms)

        return cross_fitted(
            real,
            synthetic,
            matrix_of,
            name=self.name,
            n_folds=self.n_folds,
            penalty=self.penalty,
            seed=pool.seed,
        )


def cross_fitted(
    real: Sequence[str],
    synthetic: Sequence[str],
    matrix_of: Callable[[Ints], Any],
    *,
    name: str,
    n_folds: int,
    penalty: float,
    seed: int,
) -> Scored:
    """Log odds of the synthetic rows, each by a classifier that saw the other folds, and weights.

    Args:
        real: What tells copies among the real rows.
        synthetic: Likewise.
        matrix_of: What the classifier reads, dense or sparse, of rows in the order given, the real
            ones being the first: (n,) to (n, d).
        name: Of the method.
        n_folds: Fewer where there are fewer different rows on a side.
        penalty: Of the squared slopes.
        seed: Of the folds.

    Raises:
        ConfigError: If there are fewer than two different rows on a side.
    """
    n_folds = min(n_folds, len(set(real)), len(set(synthetic)))
    if n_folds < 2:
        message = (
            f"{name} needs two different real and two different synthetic rows; there are "
            f"{len(set(real))} and {len(set(synthetic))}."
        )
        raise ConfigError(message, hint="Give more trajectories, or take another method.")
    keys = [*real, *synthetic]
    folds = np.concatenate(folds_of(real, synthetic, n_folds=n_folds, seed=seed))
    # Rows go in by their keys, so that sums, and so the odds, do not hang on the rows' order.
    order = np.array(sorted(range(len(keys)), key=lambda row: (keys[row], row)))
    logs = np.zeros(len(keys))
    logs[order] = log_odds(matrix_of(order), order < len(real), folds[order], penalty=penalty)
    return Scored(logs[len(real) :], from_logs(logs[len(real) :]))


def log_odds(
    matrix: Any, is_real: NDArray[np.bool_], folds: Ints, *, penalty: float
) -> NDArray[np.float64]:
    """Of every row, by the logistic regression that did not see its fold: (n,).

    Args:
        matrix: Dense or sparse. Shape (n, d).
        is_real: The side. Shape (n,).
        folds: Of every row; outside of each there are rows of both sides. Shape (n,).
        penalty: Of the squared slopes.
    """
    found = np.zeros(len(folds))
    for fold in np.unique(folds):
        others = folds != fold
        fitted = fitted_logistic(matrix[others], is_real[others], penalty=penalty)
        found[~others] = matrix[~others] @ fitted[:-1] + fitted[-1]
    return found


def folds_of(
    real: Sequence[str], synthetic: Sequence[str], *, n_folds: int, seed: int
) -> tuple[Ints, Ints]:
    """The fold of every real and of every synthetic text; copies of a text share one.

    Different texts are dealt in turns, those of both sides first; so every fold gets some of each
    side. Which text comes when, the seed decides, and no order of rows.

    Args:
        real: At least as many different ones as folds.
        synthetic: Likewise.
        n_folds: At least 1.
        seed: Of the order in which texts are dealt.
    """
    shared = sorted(set(real) & set(synthetic), key=lambda text: _key(text, seed))
    found = []
    for side in (real, synthetic):
        own = sorted(set(side).difference(shared), key=lambda text: _key(text, seed))
        fold_of = {text: place % n_folds for place, text in enumerate([*shared, *own])}
        found.append(np.array([fold_of[text] for text in side], dtype=np.int64))
    return found[0], found[1]


def _key(text: str, seed: int) -> bytes:
    """Where a text stands in the order of a seed."""
    whole = f"{seed}\n{text}".encode(errors="surrogatepass")
    return hashlib.blake2b(whole, digest_size=16).digest()

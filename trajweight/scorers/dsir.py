"""DSIR: is a row rather a draw from the real words, or from the synthetic ones?

Both sides are bags of hashed words and pairs of words; p and q are their shares of each bucket:

    log ratio of a row = sum_j count_j (log(p_j + 1e-8) - log(q_j + 1e-8))

As in the authors' code there is no division by the row's length, and a bucket that a side lacks has
1e-8. Their texts are all about 128 words long; of trajectories the long ones get the most extreme
ratios, mostly the lowest, since few real rows lack many buckets. All of a row's text is read, as
all of theirs is. The authors draw rows without replacement in proportion to the ratios (Gumbel
noise added to the logarithms, then the greatest); here the ratios themselves are the weights. Their
filter of very short and repetitive texts is left out: it is no part of the ratio.

Reference:
    Xie, Santurkar, Ma and Liang, Data Selection for Language Models via Importance Resampling,
    NeurIPS 2023, arXiv 2302.03169; buckets and smoothing as in github.com/p-lambda/dsir.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.errors import ConfigError
from trajweight.scorers.grams import grams_of
from trajweight.scorers.scorer import Scored, from_logs
from trajweight.scorers.texts import require_real, texts_of

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool
    from trajweight.scorers.texts import Reads

_SMOOTHING: Final = 1e-8


@dataclass(frozen=True, slots=True)
class Dsir:
    """Importance weights of hashed words and pairs of words.

    Attributes:
        n_buckets: Of the hash.
        reads: Whose turns.
    """

    n_buckets: int = 10_000
    reads: Reads = "all"
    name: str = "dsir"
    sentence: str = (
        "How much likelier a row's words and pairs of words are among real rows than among "
        "synthetic ones (DSIR, Xie et al. 2023, hashed n-grams)."
    )
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """Log ratios, and the ratios as weights; zero for a row without words.

        Raises:
            ConfigError: If there are no real rows, or none of them has words.
        """
        require_real(pool, self.name)
        synthetic = texts_of(pool.synthetic, self.reads)
        grams = grams_of([*synthetic, *texts_of(pool.real, self.reads)], with_pairs=True)
        bucket_of = np.array([_bucket(name, self.n_buckets) for name in grams.names()], np.int64)
        buckets, is_raw = bucket_of[grams.kinds], grams.rows < len(synthetic)  # (m,)
        raw, target = (
            np.bincount(buckets[side], minlength=self.n_buckets) for side in (is_raw, ~is_raw)
        )
        if not target.sum() or not raw.sum():
            side = "synthetic" if target.sum() else "real"
            message = f"{self.name}: there is not one word in the {side} trajectories."
            raise ConfigError(message, hint="Look at them: trajweight inspect.")
        gain = np.log(target / target.sum() + _SMOOTHING) - np.log(raw / raw.sum() + _SMOOTHING)
        gains, rows = gain[buckets[is_raw]], grams.rows[is_raw]
        logs = np.zeros(len(synthetic))
        np.add.at(logs, rows, gains)
        return Scored(logs, from_logs(logs))


def _bucket(gram: str, n_buckets: int) -> int:
    """The bucket of a word or pair: its SHA-256 as a number, modulo the buckets."""
    return (
        int.from_bytes(hashlib.sha256(gram.encode(errors="surrogatepass")).digest(), "big")
        % n_buckets
    )

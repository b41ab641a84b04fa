"""Weights that look at nothing: all alike, and dealt at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every row counts alike."""

    name: str = "uniform"
    sentence: str = "All rows count alike: what every other way has to beat."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """Zero for every row."""
        return Scored(np.zeros(len(pool.synthetic)))


@dataclass(frozen=True, slots=True)
class Random:
    """A number from 0 to 1 that hangs on the seed and the row's id alone, not on its place."""

    name: str = "random"
    sentence: str = "Chance: what is gained by weights as uneven as the others', dealt blindly."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """One draw a row."""
        drawn = [_draw(pool.seed, name) for name in pool.synthetic["traj_id"]]
        return Scored(np.array(drawn, dtype=np.float64))


def _draw(seed: int, name: str) -> float:
    """A number from 0 to 1, as good as uniform."""
    text = f"{seed}\n{name}".encode(errors="surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

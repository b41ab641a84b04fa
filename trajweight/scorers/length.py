"""Short or long: how much the assistant says, in characters.

No judge of quality, yet what many a clever score turns out to measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from trajweight.scorers.scorer import Scored
from trajweight.scorers.texts import texts_of

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool


@dataclass(frozen=True, slots=True)
class Length:
    """Characters of the assistant's turns, which unlike words are known in every language.

    Attributes:
        prefers: Which rows count more.
    """

    prefers: Literal["short", "long"]
    needs: Needs = "rows"

    @property
    def name(self) -> str:
        """Shorter or longer."""
        return "shorter" if self.prefers == "short" else "longer"

    @property
    def sentence(self) -> str:
        """Which way it goes."""
        less = "less" if self.prefers == "short" else "more"
        return f"The {less} the assistant says, in characters, the more a row counts."

    def score(self, pool: Pool) -> Scored:
        """The number of characters, below zero where short rows count more."""
        lengths = [len(text) for text in texts_of(pool.synthetic, "assistant")]
        sign = -1.0 if self.prefers == "short" else 1.0
        return Scored(sign * np.array(lengths, dtype=np.float64))

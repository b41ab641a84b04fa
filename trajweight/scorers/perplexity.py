"""Perplexity under the base model: the mean loss of a row's replies, in nats a token.

Which end is better is not agreed upon: rows that the model finds likely are clean but may teach
nothing, rows it finds unlikely are hard or broken, and those in the middle are what was found best
for pretraining (Marion et al. 2023, arXiv 2309.04564). So there are three scorers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool

#: Which losses a scorer prefers.
Prefers = Literal["low", "middle", "high"]


@dataclass(frozen=True, slots=True)
class BaseNll:
    """The loss under the base model, read one way.

    Attributes:
        prefers: Which losses are better; middle is nearest to the median, counted in ranks.
    """

    prefers: Prefers
    needs: Needs = "model"

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"base-nll-{self.prefers}"

    @property
    def sentence(self) -> str:
        """What it says."""
        if self.prefers == "middle":
            return "Nearness of a row's loss under the base model to the median, in ranks."
        return f"Rows whose loss under the base model is {self.prefers}, in nats a token."

    def score(self, pool: Pool) -> Scored:
        """The loss, its negative, or the negative distance of its rank from the middle."""
        from scipy.stats import rankdata  # a part of a second to load

        ground = pool.ground()
        losses = ground.frozen.losses.all[ground.material.synthetic].double().numpy()
        if self.prefers == "middle":
            return Scored(-np.abs(rankdata(losses) - (len(losses) + 1) / 2))
        return Scored(losses if self.prefers == "high" else -losses)

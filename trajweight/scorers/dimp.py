"""Likelihood ratio: how much likelier a row became when the model learned from real rows.

    log weight = mean loss under the base model - mean loss after training on real rows

in nats a token of the replies, as the two losses of `trajweight.features.LOSSES` say it; the weight
is the ratio p_real / p_base of one token on (geometric) average. The ratio of whole rows would be
decided by their lengths. The authors' denominator is a model trained on the synthetic rows, or in
DIMP the one in training; here it is the base model, from which that training sets out.

Reference:
    Kuo et al., Not All LLM-Generated Data Are Equal, ICLR 2025, arXiv 2410.21526.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.errors import ConfigError
from trajweight.features import LOSSES, losses_among
from trajweight.scorers.grounds import warmed
from trajweight.scorers.scorer import Scored, from_logs

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """Ratio of the likelihoods after and before training on real rows."""

    name: str = "dimp"
    sentence: str = (
        "How much likelier a row is after training on real rows than under the base model "
        "(likelihood ratio as in DIMP, Kuo et al. 2025)."
    )
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """Log ratios a token, and the ratios as weights.

        Raises:
            ConfigError: If there are no real training rows, or too few validation rows.
        """
        if not pool.ground().material.real:
            message = f"{self.name} trains on real rows, and there are none in training."
            raise ConfigError(message, hint="Add real trajectories, or take another method.")
        with warmed(pool, self.name) as warm:
            features = warm.beginning.features[warm.ground.material.synthetic]
        losses = dict(zip(LOSSES, losses_among(features).unbind(1), strict=True))
        logs = (losses["base_nll"] - losses["real_nll"]).numpy()
        return Scored(logs, from_logs(logs))

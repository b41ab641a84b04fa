"""Learning to reweight: a row counts in a batch as a step on it would lower the validation loss.

    w_i = max(-d_i, 0), divided by their sum over the batch

with d_i = dL_val / d eps_i at eps = 0, eps_i being what row i counts in the next step. There is no
head: nothing is remembered of a row between two visits. Here a row's weight is the mean over its
visits, in a training that goes on from the warm-up on synthetic rows alone with those very weights,
w_i times the batch size. The step that is differentiated is the engine's own, of AdamW.

Reference:
    Ren et al., Learning to Reweight Examples for Robust Deep Learning, ICML 2018, arXiv 1803.09050.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trajweight.errors import ConfigError
from trajweight.estimators import Ghost
from trajweight.scorers.grounds import warmed
from trajweight.scorers.one_step import foreseen, visits
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows
    from trajweight.scorers.scorer import Needs, Pool


@dataclass(frozen=True, slots=True)
class LearningToReweight:
    """Mean weights of rows over a training.

    Attributes:
        times: How often each row is visited, at least.
    """

    times: int = 3
    name: str = "learning-to-reweight"
    sentence: str = (
        "Mean of what a row counts in its batches when it counts as one step on it lowers the "
        "validation loss (Ren et al. 2018)."
    )
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """Mean weights.

        Raises:
            ConfigError: If there are too few validation rows, or no row lowers their loss.
        """
        with warmed(pool, self.name) as warm:
            found = reweighted(
                warm.inner,
                warm.inner.problem.synthetic,
                times=self.times,
                validation_size=warm.ground.config.estimator.batch_size,
            )
        if not bool((found > 0).any()):
            message = f"{self.name}: a step on none of the rows lowers the validation loss."
            raise ConfigError(message, hint="Take another method.")
        weights = found.double().numpy()
        return Scored(weights, weights)


def reweighted(inner: InnerLevel, rows: Rows, *, times: int, validation_size: int) -> Tensor:
    """Train on batches that weigh themselves; the mean weight of each row: (n,).

    Args:
        inner: Trained, from where it stands.
        rows: To weigh.
        times: Visits of each row, at least.
        validation_size: Validation rows of one gradient, at most.
    """
    running = Ghost(fused=False, validation_size=validation_size).begin(inner)
    place = {row: index for index, row in enumerate(rows)}
    total, count = torch.zeros(len(rows)), torch.zeros(len(rows))
    for batch in visits(inner, rows, times):
        # With all weights zero the step's derivative is that at eps = 0.
        found = foreseen(inner, running, batch, torch.zeros(len(batch)))
        if found is None:
            continue
        gains = (-found.d).clamp_min(0).float()
        weights = gains * (len(batch) / gains.sum().clamp_min(1e-30))
        if bool(gains.any()):
            inner.step(batch, weights)
        places = torch.tensor([place[row] for row in batch])
        total.index_add_(0, places, weights)
        count.index_add_(0, places, torch.ones(len(batch)))
    # A row whose every step had to be skipped counts as the mean does.
    return torch.where(count > 0, total / count.clamp_min(1), 1.0)

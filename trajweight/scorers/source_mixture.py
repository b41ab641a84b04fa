"""A weight for every source, learned at two levels: the engine's own search with a group head.

ScaleBiO learns how much each source of data should count, by a penalty of first order; here the
same weights are learned with the estimator that the settings name (``penalty`` is ScaleBiO's), so
that one knows what is gained by looking at rows and not only at where they come from.

Reference:
    Pan et al., ScaleBiO: Scalable Bilevel Optimization for LLM Data Reweighting, arXiv 2406.19976.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.choosing import estimator_of
from trajweight.errors import ConfigError
from trajweight.scorers.grounds import warmed
from trajweight.scorers.searching import searched

if TYPE_CHECKING:
    from trajweight.scorers.scorer import Needs, Pool, Scored


@dataclass(frozen=True, slots=True)
class SourceMixture:
    """Learned weights of sources."""

    name: str = "source-mixture"
    sentence: str = "One weight for every source, learned at two levels (as in ScaleBiO, 2024)."
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """The weight of each row's source.

        Raises:
            ConfigError: If all synthetic rows are of one source, or there are too few validation
                rows.
        """
        material = pool.ground().material
        sources = {material.sources[row] for row in material.synthetic}
        if len(sources) < 2:
            message = (
                f"{self.name} weighs sources against each other, and all synthetic rows are of "
                f"{', '.join(sorted(sources))}."
            )
            raise ConfigError(message, hint="Give rows of several sources, or take another method.")
        with warmed(pool, self.name) as warm:
            estimator = estimator_of(warm.ground.config.estimator)
            return searched(warm, head="group", estimator=estimator, seed=pool.seed)

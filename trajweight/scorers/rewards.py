"""What the rewards that rows carry say of them: three ways, all comparing inside a task only.

A row's return is its reward, or in a task without rewards its outcome. What is not known is never
taken for bad: such a row is kept by the filter, and counts as its task's mean elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.errors import ConfigError
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.scorers.scorer import Needs, Pool

_HINT = "Give rewards or outcomes of several synthetic trajectories a task, or take another method."


@dataclass(frozen=True, slots=True)
class RewardFilter:
    """Filtered behaviour cloning: weight one for the best of each task, zero for the rest.

    Attributes:
        keep: Share of a task's rows with a return that is kept; ties are.
    """

    keep: float = 0.5
    name: str = "reward-filter"
    sentence: str = "Keeps the better half of each task by reward (filtered behaviour cloning)."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """One for what is kept.

        Raises:
            ConfigError: If no rewards are known, or none tells two rows of a task apart.
        """
        from trajweight.returns import filter_factors  # brings torch

        returns, tasks = _returns(pool, self.name)
        kept = np.array(filter_factors(returns, tasks, keep=self.keep, floor=0.0))
        if kept.all():
            message = f"{self.name}: in no task is one synthetic trajectory among the worse half."
            raise ConfigError(message, hint=_HINT)
        return Scored(kept, kept)


@dataclass(frozen=True, slots=True)
class RewardWeighted:
    """Reward-weighted regression: weights exp(z / beta), z standardised inside the task.

    Attributes:
        beta: Temperature; the smaller, the more the rewards decide.

    Reference:
        Peters and Schaal, Reinforcement learning by reward-weighted regression, ICML 2007.
    """

    beta: float = 1.0
    name: str = "rwr"
    sentence: str = "Exponential of the reward, standardised in each task (RWR, Peters 2007)."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """The standardised returns, and their exponentials as weights.

        Raises:
            ConfigError: If no rewards are known, or none tells two rows of a task apart.
        """
        from trajweight.returns import return_factors

        z = _compared(pool, self.name)
        return Scored(
            np.array([value or 0.0 for value in z]), np.array(return_factors(z, beta=self.beta))
        )


@dataclass(frozen=True, slots=True)
class SourceReward:
    """How good a row's source is: the mean standardised return of the rows it made.

    All rows of a source count alike, so it is told from judging single rows by them.
    """

    name: str = "source-reward"
    sentence: str = "Each row as good as its source: the mean reward of all that the source made."
    needs: Needs = "rows"

    def score(self, pool: Pool) -> Scored:
        """The mean of a row's source; zero, the mean of all tasks, where none of it is known.

        Raises:
            ConfigError: If no rewards are known, none tells two rows of a task apart, or there is
                one source only.
        """
        sources = pool.synthetic["source"].to_list()
        by_source: dict[str, list[float]] = {source: [] for source in sources}
        if len(by_source) < 2:
            message = f"{self.name}: all synthetic trajectories are of one source."
            raise ConfigError(message, hint="Name who made each row in a field source.")
        for source, value in zip(sources, _compared(pool, self.name), strict=True):
            if value is not None:
                by_source[source].append(value)
        mean = {source: math.fsum(z) / max(len(z), 1) for source, z in by_source.items()}
        return Scored(np.array([mean[source] for source in sources]))


def _returns(pool: Pool, name: str) -> tuple[Sequence[float | None], list[str]]:
    """Returns and tasks of the synthetic rows."""
    from trajweight.returns import returns_of

    rows = pool.synthetic
    tasks = rows["task_id"].to_list()
    returns = returns_of(rows["reward"].to_list(), rows["success"].to_list(), tasks)
    if all(value is None for value in returns):
        message = f"{name} needs rewards, and none of {len(tasks)} synthetic trajectories has one."
        raise ConfigError(message, hint=_HINT)
    return returns, tasks


def _compared(pool: Pool, name: str) -> Sequence[float | None]:
    """Returns standardised inside each task, of which at least one is not zero."""
    from trajweight.returns import standardised

    returns, tasks = _returns(pool, name)
    z = standardised(returns, tasks)
    if not any(z):
        message = f"{name}: in no task do two synthetic trajectories have different rewards."
        raise ConfigError(message, hint=_HINT)
    return z

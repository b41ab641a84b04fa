"""How much should real rows count in all? Whole trainings at several shares of mass; dev chooses.

Synthetic weights have mean one: they say how synthetic rows stand to each other, and not to the
real ones. The answer depends on how long the model trains, since real rows are few and learned by
heart sooner or later, so nothing shorter than the training itself is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trajweight.retraining import on_real_rows_alone, train_whole
from trajweight.verdict import beyond_noise, gain_over, task_means
from trajweight.weights import real_row_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.config import RunConfig
    from trajweight.material import Material
    from trajweight.problem import Problem
    from trajweight.progress import Progress

#: Shares that are tried beside the one that real rows have as they are.
SHARES: Final = (0.25, 0.5, 0.75, 0.9)
#: Two shares nearer than this are not worth a training each.
_ALIKE: Final = 0.05
#: Of real rows that train alone.
_ALONE: Final = 1.0


@dataclass(frozen=True)
class Tried:
    """A training, and what the rows that choose say of it.

    Attributes:
        share: Of the mass, that real training rows had.
        by_task: Loss of each task of the rows that choose, in nats a token. Shape (tasks,).
        steps: Inner steps.
    """

    share: float
    by_task: Tensor
    steps: int


@dataclass(frozen=True)
class Choice:
    """The share that is to be taken, and how it was found.

    Attributes:
        share: Of the mass, that real training rows should have.
        weight: What each of them counts then, the synthetic ones having mean one.
        has_dev: Whether dev rows chose, or the validation rows for want of them.
        before: At the share that real rows have as they are.
        others: At other shares.
        alone: With the real rows alone, for as many steps.
    """

    share: float
    weight: float
    has_dev: bool
    before: Tried
    others: list[Tried]
    alone: Tried

    @property
    def best(self) -> Tried:
        """The training whose share is taken."""
        return best_of(self.before, self.others)

    @property
    def is_better_alone(self) -> bool:
        """Whether real rows alone save more than the noise against the share that is taken."""
        return beyond_noise(self.best.by_task, self.alone.by_task) > 0

    def as_facts(self) -> dict[str, Any]:
        """For the report: gains are against the share that real rows have as they are."""
        tried = []
        for each in sorted([self.before, *self.others, self.alone], key=lambda each: each.share):
            gain, error = gain_over(self.before.by_task, each.by_task)
            loss = float(each.by_task.mean())
            tried.append({"share": each.share, "loss": loss, "gain": gain, "gain_se": error})
        return {
            "share": self.share,
            "weight": self.weight,
            "before": self.before.share,
            "steps": self.before.steps,
            "judged_by": "dev" if self.has_dev else "validation",
            "is_better_alone": self.is_better_alone,
            "tried": tried,
        }


def choose_real_share(
    problem: Problem,
    weights: Tensor,
    material: Material,
    config: RunConfig,
    *,
    untrained: Sequence[Tensor],
    progress: Progress,
) -> Choice:
    """Train from the base at several shares of the real rows' mass, and see what dev says.

    The share that real rows have as they are stands, unless another one saves more than its own
    standard error over the tasks. Every training is as long as the one for the user to keep; see
    `trajweight.retraining`.

    Args:
        problem: Of the adapter `trajweight.retraining.RETRAINED`, over the whole vocabulary, with
            real training rows among others.
        weights: Of the synthetic rows, mean one. Shape (n,).
        material: Whose dev rows choose, or the validation rows for want of them.
        config: Settings; the section ``retrain`` has the epochs and the rate.
        untrained: The adapter before any training.
        progress: Told of every training.

    Raises:
        DivergenceError: If losses or gradients stay non-finite.
    """
    n_real, n_synthetic = len(problem.real), len(problem.synthetic)
    mass = n_real * problem.real_weight
    own = mass / (mass + n_synthetic)
    judge = material.dev or material.validation

    def tried(share: float, changed: Problem, config: RunConfig = config) -> Tried:
        stage = "real rows alone" if share == _ALONE else f"real rows at {share:.0%}"
        steps = train_whole(
            changed, weights, config, untrained=untrained, progress=progress, stage=stage
        )
        return Tried(share, task_means(problem.evaluate(judge), judge, material), steps)

    def at(share: float) -> Tried:
        weight = real_row_weight(n_real, n_synthetic, share)
        return tried(share, replace(problem, real_weight=weight))

    before = tried(own, problem)
    others = [at(share) for share in SHARES if abs(share - own) > _ALIKE]
    alone = tried(_ALONE, *on_real_rows_alone(problem, config))
    share = best_of(before, others).share
    weight = problem.real_weight if share == own else real_row_weight(n_real, n_synthetic, share)
    return Choice(share, weight, bool(material.dev), before, others, alone)


def best_of(before: Tried, others: Sequence[Tried]) -> Tried:
    """The one that saves most beyond noise against how things are; that itself if none does."""
    best = max(others, key=lambda each: beyond_noise(before.by_task, each.by_task), default=before)
    return best if beyond_noise(before.by_task, best.by_task) > 0 else before

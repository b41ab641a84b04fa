"""How much should real rows count in all? Whole trainings at several shares of mass; dev chooses.

Synthetic weights have mean one: they say how synthetic rows stand to each other, and not to the
real ones. The answer depends on how long the model trains, since real rows are few and learned by
heart sooner or later, so nothing shorter than the training itself is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import DivergenceError
from trajweight.retraining import on_real_rows_alone, steps_of, train_whole
from trajweight.verdict import gain_over, task_means
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
        by_task: Loss of each task of the rows that choose, in nats a token; None where the training
            left the finite numbers. Shape (tasks,).
    """

    share: float
    by_task: Tensor | None

    def gain_over(self, other: Tried) -> tuple[float, float | None] | None:
        """Loss saved against another training, and its standard error; None where one failed."""
        if self.by_task is None or other.by_task is None:
            return None
        return gain_over(other.by_task, self.by_task)

    def beats(self, other: Tried) -> bool:
        """Whether it saves more than the standard error of that; a single task never tells."""
        gain, error = self.gain_over(other) or (0.0, None)
        return error is not None and gain > error


@dataclass(frozen=True)
class Choice:
    """The share that is to be taken, and how it was found.

    Attributes:
        share: Of the mass, that real training rows should have.
        weight: What each of them counts then, the synthetic ones having mean one.
        has_dev: Whether dev rows chose, or the validation rows for want of them.
        before: At the share that real rows have as they are.
        steps: Of a training.
        others: At other shares.
        alone: With the real rows alone, for as many steps.
    """

    share: float
    weight: float
    has_dev: bool
    steps: int
    before: Tried
    others: list[Tried]
    alone: Tried

    @property
    def is_better_alone(self) -> bool:
        """Whether real rows alone beat every share that was tried."""
        return all(self.alone.beats(each) for each in (self.before, *self.others))

    def as_facts(self) -> dict[str, Any]:
        """For the report: gains are against the share that real rows have as they are."""
        tried = []
        for each in sorted([self.before, *self.others, self.alone], key=lambda each: each.share):
            gain, error = each.gain_over(self.before) or (None, None)
            loss = None if each.by_task is None else float(each.by_task.mean())
            tried.append({"share": each.share, "loss": loss, "gain": gain, "gain_se": error})
        return {
            "share": self.share,
            "weight": self.weight,
            "before": self.before.share,
            "steps": self.steps,
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

    The share that real rows have as they are stands, unless another one saves more than the
    standard error of that over the tasks. Every training is as long as the one for the user to
    keep, see `trajweight.retraining`; one that leaves the finite numbers is passed over.

    Args:
        problem: Of the adapter `trajweight.retraining.RETRAINED`, over the whole vocabulary, with
            real training rows among others.
        weights: Of the synthetic rows, mean one. Shape (n,).
        material: Whose dev rows choose, or the validation rows for want of them.
        config: Settings; the section ``retrain`` has the epochs and the rate.
        untrained: The adapter before any training.
        progress: Told of every training.

    Raises:
        DivergenceError: If the training with the share as it is leaves the finite numbers.
    """
    n_real, n_synthetic = len(problem.real), len(problem.synthetic)
    mass = n_real * problem.real_weight
    own = mass / (mass + n_synthetic)
    judge = material.dev or material.validation

    def trained(share: float, changed: Problem, settings: RunConfig) -> Tried:
        stage = "real rows alone" if share == _ALONE else f"real rows at {share:.0%}"
        train_whole(changed, weights, settings, untrained=untrained, progress=progress, stage=stage)
        by_task = task_means(problem.evaluate(judge), judge, material)
        return Tried(share, by_task if bool(by_task.isfinite().all()) else None)

    def tried(share: float, changed: Problem, settings: RunConfig) -> Tried:
        try:
            return trained(share, changed, settings)
        except DivergenceError:
            progress.finish()
            return Tried(share, None)

    def at(share: float) -> Tried:
        weight = real_row_weight(n_real, n_synthetic, share)
        return tried(share, replace(problem, real_weight=weight), config)

    before = trained(own, problem, config)
    if before.by_task is None:
        message = "after the training with the real rows as they are, losses are not finite"
        raise DivergenceError(message)
    others = [at(share) for share in SHARES if abs(share - own) > _ALIKE]
    alone = tried(_ALONE, *on_real_rows_alone(problem, config))
    share = best_of(before, others).share
    weight = problem.real_weight if share == own else real_row_weight(n_real, n_synthetic, share)
    steps = steps_of(problem, config)
    return Choice(share, weight, bool(material.dev), steps, before, others, alone)


def best_of(before: Tried, others: Sequence[Tried]) -> Tried:
    """Of those that beat how things are, the one that saves most less its standard error.

    How things are, if none does.
    """

    def beyond_noise(each: Tried) -> float:
        gain, error = each.gain_over(before) or (0.0, None)
        return gain - (error or 0.0)

    return max((each for each in others if each.beats(before)), key=beyond_noise, default=before)

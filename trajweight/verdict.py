"""Do the learned weights help? Short trainings with them and without, judged on dev.

Without means uniform weights, and where returns give a prior, that prior alone: what is not learned
is the same on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.contest import contest
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trajweight.config import RunConfig
    from trajweight.inner import InnerLevel
    from trajweight.material import Material
    from trajweight.progress import Progress
    from trajweight.reweighting import Prior

#: Temperatures between which the one that meets the target of the effective sample size lies.
_FLATTEST, _HALVINGS = 1024.0, 40
#: A gain or loss on dev of more than this many standard errors is clear. What is not is asked
#: again, by trainings that are so many times as long: what weights do comes slowly where it is
#: little.
_CLEAR, _LONGER = 3.0, 4


@dataclass(frozen=True)
class Candidate:
    """Weights at one temperature, and how a model trained with them did.

    Attributes:
        temperature: Infinite where the head says nothing.
        weights: Of the synthetic training rows, mean one. Shape (n,).
        ess_fraction: Their effective sample size over n.
        loss: On the rows that choose, mean over their tasks, in nats a token.
        outer_loss: On the validation rows.
        by_task: Loss of each task of the rows that choose. Shape (tasks,).
    """

    temperature: float
    weights: Tensor
    ess_fraction: float
    loss: float
    outer_loss: float
    by_task: Tensor


@dataclass(frozen=True)
class Verdict:
    """All candidates, and which is to be taken.

    Attributes:
        uniform: Uniform weights.
        alone: Weights from returns alone; None without a prior.
        learned: Learned weights by temperature, sharpest first.
        best: The one of ``learned`` that is taken, see `chosen`.
        gain: Loss it saves against the baseline, mean over the tasks, in nats a token.
        error: Standard error of the gain over the tasks; None with a single task.
        has_dev: Whether dev rows chose, or the validation rows for want of them.
        steps: Inner steps of each training.
    """

    uniform: Candidate
    alone: Candidate | None
    learned: list[Candidate]
    best: Candidate
    gain: float
    error: float | None
    has_dev: bool
    steps: int

    @property
    def baseline(self) -> Candidate:
        """What the weights are where nothing is learned."""
        return self.alone or self.uniform

    @property
    def wins(self) -> bool:
        """Whether the gain over the baseline is more than its own standard error."""
        return self.gain > (self.error or 0.0)

    @property
    def is_open(self) -> bool:
        """Whether longer trainings may decide what these did not.

        Equal weights stay equal, and a single task never tells its noise.
        """
        if self.error is None or torch.equal(self.best.weights, self.baseline.weights):
            return False
        return abs(self.gain) <= _CLEAR * self.error

    def tradeoff(self) -> list[dict[str, float | None]]:
        """Loss against effective sample size; temperature None for returns alone and uniform."""
        return [
            {
                "temperature": each.temperature if math.isfinite(each.temperature) else None,
                "ess_fraction": each.ess_fraction,
                "loss": each.loss,
                "outer_loss": each.outer_loss,
            }
            for each in [*self.learned, *([self.alone] if self.alone else []), self.uniform]
        ]


def temperatures_that_keep(
    weights_at: Callable[[float], Tensor],
    temperatures: Sequence[float],
    *,
    target_ess: float,
    prior: Prior | None = None,
) -> list[float]:
    """The temperatures, those below raised to the least that meets the target; ascending.

    Args:
        weights_at: Weights at a temperature; their effective sample size grows with it.
        temperatures: What is asked for.
        target_ess: Least effective sample size over n.
        prior: What that is relative to.
    """

    def meets(temperature: float) -> bool:
        weights = weights_at(temperature)
        return (float(prior.kept(weights)) if prior else _ess_fraction(weights)) >= target_ess

    low, high = 0.0, _FLATTEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return sorted({each if meets(each) else max(each, high) for each in temperatures})


def hold_contest(
    inner: InnerLevel,
    start: dict[str, Any],
    weights: dict[float, Tensor],
    material: Material,
    config: RunConfig,
    progress: Progress,
) -> Verdict:
    """Train once more with the weights at each temperature and without learning; dev chooses.

    Where it cannot tell, all trainings are made again from the start and last longer.

    Args:
        inner: Left as it was.
        start: The state every training starts from.
        weights: By temperature. Shape (n,) each.
        material: Whose dev rows choose, or the validation rows for want of them.
        config: Steps of a training.
        progress: Told of the stage.
    """
    candidates: dict[float | str, Tensor] = dict(weights.items())
    if material.prior:
        candidates["returns"] = material.prior.weights
    candidates["uniform"] = torch.ones_like(next(iter(weights.values())))
    steps = config.outer.contest_steps

    def bout(stage: str, steps: int) -> Verdict:
        progress.start(stage, len(candidates))
        found = _bout(inner, start, candidates, steps, material, progress.advance)
        progress.finish()
        return found

    first = bout("contest with uniform weights", steps)
    return bout("longer contest with uniform weights", _LONGER * steps) if first.is_open else first


def _bout(
    inner: InnerLevel,
    start: dict[str, Any],
    candidates: dict[float | str, Tensor],
    steps: int,
    material: Material,
    watch: Callable[[], None],
) -> Verdict:
    """One training a candidate, of so many steps, and what dev says of them."""
    judge = material.dev or material.validation
    results = contest(inner, start, candidates, steps=steps, judge=judge, watch=watch)
    found = {
        name: candidate_of(
            name if isinstance(name, float) else math.inf,
            candidates[name],
            result.judged,
            result.outer,
            material,
        )
        for name, result in results.items()
    }
    uniform, alone = found.pop("uniform"), found.pop("returns", None)
    learned = list(found.values())
    best = chosen(learned)
    gain, error = gain_over((alone or uniform).by_task, best.by_task)
    return Verdict(
        uniform=uniform,
        alone=alone,
        learned=learned,
        best=best,
        gain=gain,
        error=error,
        has_dev=bool(material.dev),
        steps=steps,
    )


def chosen(learned: Sequence[Candidate]) -> Candidate:
    """The weights as they were trained, or those at a temperature that is better beyond noise.

    A few dev tasks rank near temperatures by luck, so another one than the nearest to one must
    save more than its own standard error.
    """
    trained = min(learned, key=lambda each: abs(math.log(each.temperature)))
    best = max(learned, key=lambda each: beyond_noise(trained.by_task, each.by_task))
    return best if beyond_noise(trained.by_task, best.by_task) > 0 else trained


def gain_over(baseline: Tensor, other: Tensor) -> tuple[float, float | None]:
    """Loss saved against a baseline, mean over the tasks, and its standard error.

    The error is None with a single task.

    Args:
        baseline: Loss of each task. Shape (tasks,).
        other: The same after another training. Shape (tasks,).
    """
    saved = baseline - other
    error = float(saved.std()) / len(saved) ** 0.5 if len(saved) > 1 else None
    return float(saved.mean()), error


def beyond_noise(baseline: Tensor, other: Tensor) -> float:
    """What is left of the gain over a baseline once its own standard error is taken off."""
    gain, error = gain_over(baseline, other)
    return gain - (error or 0.0)


def candidate_of(
    temperature: float, weights: Tensor, judged: Tensor, outer: float, material: Material
) -> Candidate:
    """What a training came to.

    Args:
        temperature: Infinite where no head gave the weights.
        weights: Of the synthetic training rows. Shape (n,).
        judged: Losses of the rows that choose, after training. Shape (j,).
        outer: The outer loss, after training.
        material: Whose rows these are.
    """
    by_task = task_means(judged, material.dev or material.validation, material)
    return Candidate(
        temperature, weights, _ess_fraction(weights), float(by_task.mean()), outer, by_task
    )


def _ess_fraction(weights: Tensor) -> float:
    return float(effective_sample_size(weights)) / len(weights)


def task_means(losses: Tensor, rows: Sequence[int], material: Material) -> Tensor:
    """Mean loss of each task, in the order the tasks first appear.

    A row counts within its task as it does in the outer loss.

    Args:
        losses: Of the rows. Shape (j,).
        rows: Which those are.
        material: Whose rows they are.

    Returns:
        Shape (tasks,).
    """
    total: dict[str, float] = {}
    mass: dict[str, float] = {}
    for row, loss in zip(rows, losses.tolist(), strict=True):
        task, counts = material.tasks[row], material.within[row]
        total[task] = total.get(task, 0.0) + counts * loss
        mass[task] = mass.get(task, 0.0) + counts
    return torch.tensor([total[task] / mass[task] for task in total])

"""Do the learned weights help? Short trainings with them and with uniform ones, judged on dev."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.inner import InnerLevel, contest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.config import RunConfig
    from trajweight.material import Material
    from trajweight.progress import Progress


@dataclass(frozen=True)
class Verdict:
    """The best of the learned heads, and how it did against uniform weights.

    Attributes:
        best: Its place among the heads.
        wins: Whether it did better than uniform weights on the rows that choose.
        gain: Mean over the tasks of the loss it saves against uniform, in nats a token.
        error: Standard error of the gain over the tasks; None with a single task.
        uniform: Loss on the rows that choose, and outer loss, under uniform weights.
        weighted: The same under the head's weights.
        has_dev: Whether dev rows chose, or the validation rows for want of them.
    """

    best: int
    wins: bool
    gain: float
    error: float | None
    uniform: tuple[float, float]
    weighted: tuple[float, float]
    has_dev: bool


def hold_contest(
    inner: InnerLevel,
    start: dict[str, Any],
    weights: Sequence[Tensor],
    material: Material,
    config: RunConfig,
    progress: Progress,
) -> Verdict:
    """Train once more with each head's weights and with uniform ones; dev rows choose."""
    judge = material.dev or material.validation
    names = [f"head {place}" for place in range(len(weights))]
    candidates = {"uniform": torch.ones_like(weights[0]), **dict(zip(names, weights, strict=True))}
    progress.start("contest with uniform weights")
    results = contest(inner, start, candidates, steps=config.outer.contest_steps, judge=judge)
    progress.finish()
    by_task = {
        name: _task_means(result.judged, judge, material) for name, result in results.items()
    }
    best = min(range(len(names)), key=lambda place: float(by_task[names[place]].mean()))
    saved = by_task["uniform"] - by_task[names[best]]
    gain, n = float(saved.mean()), len(saved)
    return Verdict(
        best=best,
        wins=gain > 0,
        gain=gain,
        error=float(saved.std()) / n**0.5 if n > 1 else None,
        uniform=(float(by_task["uniform"].mean()), results["uniform"].outer),
        weighted=(float(by_task[names[best]].mean()), results[names[best]].outer),
        has_dev=bool(material.dev),
    )


def _task_means(losses: Tensor, rows: Sequence[int], material: Material) -> Tensor:
    """Mean loss of each task, in the order the tasks first appear: (j,) to (tasks,)."""
    of_task: dict[str, list[float]] = {}
    for row, loss in zip(rows, losses.tolist(), strict=True):
        of_task.setdefault(material.tasks[row], []).append(loss)
    return torch.tensor([sum(each) / len(each) for each in of_task.values()])

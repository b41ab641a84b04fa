"""LESS: does a step on this row point where the validation loss falls?

    score = max over tasks of cos(Adam's step for the row's gradient, the task's gradient)

Both gradients are of the adapter at the end of the warm-up. The row's goes into Adam's moments as
they stand there, and what comes out is the step it would make; that of a task is the plain gradient
of its validation rows' loss. As in the paper a row is as good as what it does for the task it does
most for. The authors add up several checkpoints of a warm-up and project gradients to 8192 numbers;
here there is one checkpoint, and an adapter is small enough to take whole. One gradient a
validation task is held.

Reference:
    Xia et al., LESS: Selecting Influential Data for Targeted Instruction Tuning, ICML 2024,
    arXiv 2402.04333.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trajweight.scorers.grounds import warmed
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows
    from trajweight.scorers.scorer import Needs, Pool


@dataclass(frozen=True, slots=True)
class Less:
    """Cosine of training steps with gradients of validation tasks."""

    name: str = "less"
    sentence: str = (
        "How well a training step on a row agrees with the gradient of the validation task that it "
        "helps most (LESS, Xia et al. 2024)."
    )
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """Cosines, from -1 to 1.

        Raises:
            ConfigError: If there are too few validation rows.
        """
        with warmed(pool, self.name) as warm:
            tasks = [warm.ground.material.tasks[row] for row in warm.inner.problem.validation]
            targets = task_gradients(warm.inner, tasks)
            found = agreement(warm.inner, warm.inner.problem.synthetic, targets)
        return Scored(found.double().numpy())


def task_gradients(inner: InnerLevel, tasks: Sequence[str]) -> Tensor:
    """Gradient of the validation loss of each task where the adapter stands, of length one.

    Args:
        inner: Its problem says how much each validation row counts within its task.
        tasks: Of each validation row.

    Returns:
        Shape (tasks, parameters).
    """
    problem = inner.problem
    found = []
    for task in dict.fromkeys(tasks):
        places = [place for place, each in enumerate(tasks) if each == task]
        share = problem.validation_share[places]
        rows = [problem.validation[place] for place in places]
        _, gradients = inner.gradient(rows, share / share.sum())
        found.append(_unit(gradients))
    return torch.stack(found)


def agreement(inner: InnerLevel, rows: Rows, targets: Tensor) -> Tensor:
    """Cosine of each row's step with the target that it agrees with most: (n,).

    Args:
        inner: Its adapter and optimiser have made steps.
        rows: Training rows.
        targets: Of length one each. Shape (tasks, parameters).
    """
    one = torch.ones(1)
    found = []
    for row in rows:
        _, gradients = inner.gradient([row], one)
        found.append((targets @ _unit(adam_steps(inner.optimizer, gradients))).max())
    return torch.stack(found).cpu()


def adam_steps(optimizer: torch.optim.AdamW, gradients: Sequence[Tensor]) -> list[Tensor]:
    """What the next step of Adam would subtract for these gradients, at learning rate one.

    (m / c1) / (sqrt(v / c2) + eps) with the moments after the gradient; nothing is changed.
    """
    group = optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    steps = []
    for parameter, gradient in zip(group["params"], gradients, strict=True):
        state = optimizer.state[parameter]
        number = float(state["step"]) + 1 if state else 1.0
        mean = (1 - beta1) * gradient + (beta1 * state["exp_avg"] if state else 0.0)
        square = (1 - beta2) * gradient.square() + (beta2 * state["exp_avg_sq"] if state else 0.0)
        root = (square / (1 - beta2**number)).sqrt()
        steps.append(mean / (1 - beta1**number) / (root + group["eps"]))
    return steps


def _unit(tensors: Sequence[Tensor]) -> Tensor:
    """All of them in one vector of length one; zeros stay zeros: (parameters,)."""
    whole = torch.cat([each.detach().flatten() for each in tensors])
    return torch.nn.functional.normalize(whole, dim=0, eps=1e-30)

"""The inner level: an adapter trained on weighted rows, in batches that a seed decides."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajweight.adamw import AdamStep, adamw_step, gradient_of, recorded_adamw_step
from trajweight.errors import DivergenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.config import InnerConfig
    from trajweight.problem import Problem, Rows

#: Steps in a row that may be skipped because their loss or gradient is not finite.
MOST_SKIPPED = 3


@dataclass(frozen=True)
class OuterGradient:
    """The gradient of the outer loss at the adapter as it stood.

    Attributes:
        by_parameter: One tensor a parameter.
        loss: The outer loss, over the rows that were drawn.
    """

    by_parameter: list[Tensor]
    loss: float


class InnerLevel:
    """The adapter, its optimiser and its stream of batches.

    A step whose loss or gradient is not finite is skipped: the adapter stays as it was and the
    learning rate is halved. After ``MOST_SKIPPED`` such steps in a row `DivergenceError` is raised.

    Args:
        problem: The losses and the rows.
        config: Learning rate, batch size, clipping.
        seed: Of the order of batches.
    """

    def __init__(self, problem: Problem, config: InnerConfig, *, seed: int) -> None:
        """Start a new optimiser on the adapter as it stands."""
        self.problem = problem
        self.config = config
        self.parameters: list[Tensor] = [linear.weight for linear in problem.linears]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.waiting: list[int] = []
        self.skipped = 0
        self._skipped_in_a_row = {"inner": 0, "outer": 0}

    def next_batch(self, rows: Rows, *, size: int) -> list[int]:
        """The next rows of an endless stream: each once an epoch, in an order of its own.

        Args:
            rows: What is drawn from; a stream over other rows begins with `begin_epoch`.
            size: Rows of the batch.
        """
        while len(self.waiting) < min(size, len(rows)):
            order = torch.randperm(len(rows), generator=self.generator).tolist()
            self.waiting += [rows[place] for place in order]
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        return batch

    def batches(self, rows: Rows, *, size: int) -> Iterator[list[int]]:
        """Endless batches over ``rows``, beginning with a new epoch."""
        self.waiting = []
        while True:
            yield self.next_batch(rows, size=size)

    def gradient(self, rows: Rows, coefficients: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses of rows and the gradient of sum_i c_i l_i: (b,), one tensor a parameter."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.problem.accumulate(rows, coefficients)
        return losses, self.add_up(losses)

    def add_up(self, *found: Tensor) -> list[Tensor]:
        """Sum over the processes what a pass found and the gradient it left in the parameters.

        Args:
            *found: Changed in place; zero where another process does the work.

        Returns:
            The gradient, one tensor a parameter.
        """
        gradients = [gradient_of(parameter) for parameter in self.parameters]
        if self.problem.processes.count > 1:
            self.problem.processes.add_up([*found, *gradients])
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient  # a process without a row had none
        return gradients

    def step(self, rows: Rows, weights: Tensor) -> float:
        """One step on the weighted mean loss of a batch; shared prefixes are computed once."""
        losses, _ = self.gradient(rows, weights / len(rows))
        self.apply(rows, losses)
        return float((losses * weights).mean())

    def recorded_step(self, rows: Rows, weights: Tensor) -> AdamStep | None:
        """The same step with what the way back through it needs; None where it was skipped."""
        losses, gradients = self.gradient(rows, weights / len(rows))
        if not self._is_finite("inner", rows, losses, gradients):
            return None
        return recorded_adamw_step(self.optimizer, self.config.max_grad_norm)

    def apply(self, rows: Rows, losses: Tensor) -> bool:
        """Clip and step with the gradient that lies in the parameters; false where skipped."""
        gradients = [gradient_of(parameter) for parameter in self.parameters]
        if not self._is_finite("inner", rows, losses, gradients):
            return False
        adamw_step(self.optimizer, self.config.max_grad_norm)
        return True

    def outer_gradient(self, *, size: int) -> OuterGradient | None:
        """The outer gradient over at most ``size`` validation rows; None where not finite."""
        rows, share = self.problem.sample_validation(size, self.generator)
        losses, gradients = self.gradient(rows, share)
        if not self._is_finite("outer", rows, losses, gradients):
            return None
        return OuterGradient([each.clone() for each in gradients], float((losses * share).sum()))

    def state(self) -> dict[str, Any]:
        """Everything that a later `restore` needs to go on from here."""
        return {
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
            "waiting": list(self.waiting),
            "skipped": self.skipped,
            "skipped_in_a_row": dict(self._skipped_in_a_row),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.generator.set_state(state["generator"])
        self.waiting = list(state["waiting"])
        self.skipped = state["skipped"]
        self._skipped_in_a_row = dict(state["skipped_in_a_row"])

    def _is_finite(
        self, level: str, rows: Rows, losses: Tensor, gradients: Sequence[Tensor]
    ) -> bool:
        """Count and back off from what is not finite; the final error carries the rows to see."""
        norm = float(nn.utils.get_total_norm(gradients))
        if math.isfinite(norm) and bool(losses.isfinite().all()):
            self._skipped_in_a_row[level] = 0
            return True
        self.skipped += 1
        # A level's own: where inner steps go well, an outer loss may still never be finite.
        self._skipped_in_a_row[level] += 1
        if self._skipped_in_a_row[level] > MOST_SKIPPED:
            bad = [row for row, loss in zip(rows, losses.tolist(), strict=True)
                   if not math.isfinite(loss)]  # fmt: skip
            message = (
                f"{self._skipped_in_a_row[level]} steps in a row had a loss or a gradient that is "
                f"not finite; the last was one of the {level} level, with a gradient norm of {norm}"
            )
            raise DivergenceError(
                message,
                rows=bad or list(rows),
                hint="Lower inner.learning_rate, or use --dtype float32.",
            )
        for group in self.optimizer.param_groups:
            group["lr"] /= 2
        return False

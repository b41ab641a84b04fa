"""The inner level: an adapter trained on weighted rows, in batches that a seed decides.

Rows are numbers and losses are callables here; what they stand for is known elsewhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajweight.errors import DivergenceError
from trajweight.hypergradient import adam_derivative, ghost_products

if TYPE_CHECKING:
    from trajweight.config import InnerConfig

Rows = Sequence[int]


#: Steps between two looks at the outer loss during a warm-up.
LOOK_EVERY = 4
#: A warm-up is over when so many looks in a row found no outer loss 2 % below the best before.
PATIENCE = 2
LESS = 0.98
#: Past this many times the least number of steps a loss that still falls is no longer waited for.
SLOW = 4


@dataclass(frozen=True)
class Problem:
    """The inner model as the loop sees it.

    Attributes:
        apart: Losses of rows, differentiable, each row in cells of its own: rows to (b,).
        accumulate: Adds the gradient of sum_i c_i l_i to the parameters: rows, (b,) to (b,).
        evaluate: Losses of rows without gradients: rows to (b,).
        linears: The linears that hold every trainable tensor.
        real: Real training rows.
        synthetic: Synthetic training rows; weights come in this order.
        validation: Rows of the outer loss.
        validation_share: Share of each in the outer loss, summing to one. Shape (m,).
        real_weight: What each real training row counts, synthetic rows having mean one.
    """

    apart: Callable[[Rows], Tensor]
    accumulate: Callable[[Rows, Tensor], Tensor]
    evaluate: Callable[[Rows], Tensor]
    linears: list[nn.Linear]
    real: Rows
    synthetic: Rows
    validation: Rows
    validation_share: Tensor
    real_weight: float

    def outer_loss(self) -> float:
        """The outer loss under the model as it stands."""
        return float((self.evaluate(self.validation) * self.validation_share).sum())


class InnerLevel:
    """The adapter, its optimiser and its stream of batches.

    Args:
        problem: The losses and the rows.
        config: Learning rate, batch size, clipping.
        seed: Of the order of batches.
    """

    def __init__(self, problem: Problem, config: InnerConfig, *, seed: int) -> None:
        """Start a new optimiser on the adapter as it stands."""
        self.problem = problem
        self.config = config
        self.parameters = [linear.weight for linear in problem.linears]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(seed)

    def batches(self, rows: Rows, *, size: int) -> Iterator[list[int]]:
        """Endless batches: every row once an epoch, in an order of its own each epoch."""
        waiting: list[int] = []
        while True:
            while len(waiting) < min(size, len(rows)):
                order = torch.randperm(len(rows), generator=self.generator).tolist()
                waiting += [rows[place] for place in order]
            yield waiting[:size]
            waiting = waiting[size:]

    def step(self, rows: Rows, weights: Tensor) -> float:
        """One step on the weighted mean loss of a batch; shared prefixes are computed once."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.problem.accumulate(rows, weights / len(rows))
        return self._update(losses, weights, rows)

    def ghost_step(self, rows: Rows, weights: Tensor, direction: Sequence[Tensor]) -> Tensor:
        """One step, and d_i of every row of the batch from the same backward pass: (b,)."""
        self.optimizer.zero_grad(set_to_none=True)
        with ghost_products(self.problem.linears, direction, batch_size=len(rows)) as products:
            losses = self.problem.apart(rows)
            weighted = losses * weights.to(losses.device)
            weighted.mean().backward()
        self._update(losses.detach().cpu().float(), weights, rows)
        # The backward pass was of (1/B) sum_i w_i l_i, so each product holds w_i / B already.
        return -products.cpu() / weights

    def direction(self, *, size: int) -> tuple[list[Tensor], float]:
        """The outer gradient through the optimiser's update, J v, and the outer loss."""
        rows, share = sample_validation(self.problem, size, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.problem.accumulate(rows, share)
        norm = float(nn.utils.get_total_norm([_gradient(each) for each in self.parameters]))
        _require_finite("outer", float((losses * share).sum()), norm, rows, losses)
        scales = adam_derivative(self.optimizer, self.parameters)
        found = [
            scale * _gradient(parameter)
            for scale, parameter in zip(scales, self.parameters, strict=True)
        ]
        return found, float((losses * share).sum())

    def state(self) -> dict[str, Any]:
        """Everything that a later `restore` needs to go on from here."""
        return {
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.generator.set_state(state["generator"])

    def _update(self, losses: Tensor, weights: Tensor, rows: Rows) -> float:
        loss = float((losses * weights).mean())
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        _require_finite("inner", loss, norm, rows, losses)
        self.optimizer.step()
        return loss


@dataclass(frozen=True, slots=True)
class Warmed:
    """How a warm-up ended.

    Attributes:
        steps: Steps made.
        best: The step after which the outer loss was lowest.
        is_flat: Whether the outer loss had stopped falling.
    """

    steps: int
    best: int
    is_flat: bool

    def __str__(self) -> str:
        """For the user."""
        ending = "no longer fell" if self.is_flat else "was still falling"
        return f"{self.steps} steps; the outer loss {ending}, and was lowest after {self.best}"


def train_until_flat(
    inner: InnerLevel,
    rows: Rows,
    *,
    size: int,
    least: int,
    sample: int,
    keep_best: bool,
    watch: Callable[[float], None],
) -> Warmed:
    """Train with weight one on every row until the outer loss no longer falls.

    The training loss cannot tell: on few real rows it falls on while the model learns them by
    heart.

    Args:
        inner: The inner level.
        rows: What to train on.
        size: Rows of a batch.
        least: Steps at least; after ``SLOW`` times as many the loss is no longer waited for.
        sample: Validation rows of one look, at most.
        keep_best: Go back to the step with the lowest outer loss, or else stay at the last.
        watch: Told the training loss of every step.
    """
    looked_at, share = sample_validation(inner.problem, sample, inner.generator)

    def look() -> float:
        return float((inner.problem.evaluate(looked_at) * share).sum())

    best, lowest, best_state, steps, worse = 0, look(), inner.state(), 0, 0
    for batch in islice(inner.batches(rows, size=size), SLOW * least):
        watch(inner.step(batch, torch.ones(len(batch))))
        steps += 1
        if steps % LOOK_EVERY:
            continue
        now, worse = look(), worse + 1
        if now < LESS * lowest:
            best, lowest, best_state, worse = steps, now, inner.state(), 0
        if steps >= least and worse >= PATIENCE:
            break
    if keep_best and best:
        inner.restore(best_state)
    return Warmed(steps, best, is_flat=worse >= PATIENCE)


def _require_finite(level: str, loss: float, norm: float, rows: Rows, losses: Tensor) -> None:
    """Refuse a loss or a gradient that is not finite; the error carries the rows to look at."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    bad = [row for row, each in zip(rows, losses.tolist(), strict=True) if not math.isfinite(each)]
    message = f"the {level} loss is {loss} and its gradient norm {norm}"
    raise DivergenceError(
        message, rows=bad or list(rows), hint="Lower inner.learning_rate, or use --dtype float32."
    )


@dataclass(frozen=True, slots=True)
class Result:
    """How one candidate of a contest did, after training.

    Attributes:
        judged: Loss of each of the rows that choose. Shape (j,).
        outer: The outer loss.
    """

    judged: Tensor
    outer: float


def contest(
    inner: InnerLevel,
    start: dict[str, Any],
    candidates: dict[str, Tensor],
    *,
    steps: int,
    judge: Rows,
) -> dict[str, Result]:
    """Train from one state with each candidate's weights on the same batches, and compare.

    Args:
        inner: The inner level; it is left as it was.
        start: The state every run starts from.
        candidates: Weights of the synthetic training rows, by name. Shape (n,) each.
        steps: Inner steps of each run.
        judge: Rows that choose between the candidates.
    """
    before = inner.state()
    problem, found = inner.problem, {}
    for name, weights in candidates.items():
        inner.restore(start)
        everything = [*problem.real, *problem.synthetic]
        batches = inner.batches(everything, size=2 * inner.config.batch_size)
        for rows in islice(batches, steps):
            inner.step(rows, batch_weights(problem, rows, weights))
        found[name] = Result(problem.evaluate(judge), problem.outer_loss())
    inner.restore(before)
    return found


def batch_weights(problem: Problem, rows: Rows, weights: Tensor) -> Tensor:
    """Weights of a batch: the head's for synthetic rows, the fixed one for real rows: (b,)."""
    place = {row: index for index, row in enumerate(problem.synthetic)}
    found = [float(weights[place[row]]) if row in place else problem.real_weight for row in rows]
    return torch.tensor(found)


def sample_validation(
    problem: Problem, size: int, generator: torch.Generator
) -> tuple[list[int], Tensor]:
    """At most ``size`` validation rows, with shares that sum to one."""
    m = len(problem.validation)
    if m <= size:
        return list(problem.validation), problem.validation_share
    chosen = torch.randperm(m, generator=generator)[:size]
    share = problem.validation_share[chosen]
    return [problem.validation[index] for index in chosen.tolist()], share / share.sum()


def _gradient(parameter: Tensor) -> Tensor:
    """A copy of the gradient; zero where the pass did not reach."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()

"""The two levels in turn: weighted fine-tuning inside, the reweighting head outside.

Each step of the loop draws training rows, trains the adapter on their weighted loss and, out of
the same backward pass, learns for each row how the outer loss would move if it counted a little
more (`hypergradient`). The head follows: its surrogate is sum_i d_i w_i(phi) with d_i held
fixed, plus the chi-square penalty n/ESS - 1 that keeps the mass from gathering on few rows.

Rows are numbers and losses are callables here; what they stand for is known elsewhere.

Reference:
    The scheme of the abstract of BOOST (arXiv 2605.24743); one-step hypergradient as in Ren et
    al. 2018 (arXiv 1803.09050), preconditioned as in SAMA (arXiv 2310.05674).
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
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from trajweight.config import InnerConfig, OuterConfig
    from trajweight.reweighting import ReweightingHead

Rows = Sequence[int]
#: Steps between the two rankings whose correlation says whether ranks have settled.
SETTLE_WINDOW = 10
#: Inner steps an outer step may wait for a batch with two synthetic rows, on average.
MOST_IDLE = 20
#: Steps whose mean loss is compared with that of as many before, to see whether it is flat.
FLAT_WINDOW = 5


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


@dataclass(frozen=True)
class Learned:
    """What the loop leaves.

    Attributes:
        heads: Running averages of the head, an early one and the last.
        steps: Outer steps made.
        stopped_because: A sentence.
    """

    heads: list[ReweightingHead]
    steps: int
    stopped_because: str


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
        rows, share = _sample(self.problem, size, self.generator)
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


def train_until_flat(
    inner: InnerLevel,
    rows: Rows,
    *,
    size: int,
    least: int,
    most: int,
    watch: Callable[[float], None],
) -> int:
    """Train with weight one on every row until the loss has flattened; gives back the steps.

    Flat means that the mean loss of the last five steps is less than a tenth below that of the
    five before.
    """
    losses: list[float] = []
    for batch in islice(inner.batches(rows, size=size), most):
        losses.append(inner.step(batch, torch.ones(len(batch))))
        watch(losses[-1])
        window = len(losses) >= max(least, 2 * FLAT_WINDOW)
        if window and _mean(losses[-FLAT_WINDOW:]) > 0.9 * _mean(
            losses[-2 * FLAT_WINDOW : -FLAT_WINDOW]
        ):
            break
    return len(losses)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _require_finite(level: str, loss: float, norm: float, rows: Rows, losses: Tensor) -> None:
    """Refuse a loss or a gradient that is not finite; the error carries the rows to look at."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    bad = [row for row, each in zip(rows, losses.tolist(), strict=True) if not math.isfinite(each)]
    message = f"the {level} loss is {loss} and its gradient norm {norm}"
    raise DivergenceError(
        message, rows=bad or list(rows), hint="Lower inner.learning_rate, or use --dtype float32."
    )


def learn(
    inner: InnerLevel,
    head: ReweightingHead,
    features: Tensor,
    config: OuterConfig,
    *,
    watch: Callable[[dict[str, float]], None],
) -> Learned:
    """Run both levels until the ranks of the weights settle.

    Args:
        inner: An inner level that has made at least one step.
        head: Changed in place.
        features: Of the synthetic training rows, in the problem's order. Shape (n, f).
        config: Of the outer level.
        watch: Called with the numbers of every outer step.

    Returns:
        The averaged heads, the number of outer steps, and why the loop ended.

    Raises:
        DivergenceError: If a loss or a gradient is not finite.
    """
    problem = inner.problem
    place = {row: index for index, row in enumerate(problem.synthetic)}
    outer = _OuterLevel(head, features, config)
    batches = inner.batches([*problem.real, *problem.synthetic], size=inner.config.batch_size)
    direction, outer_loss = inner.direction(size=config.batch_size)
    heads: list[ReweightingHead] = []
    rankings: list[Tensor] = []
    why = "batches held too few synthetic rows for an outer step"
    for inner_step, rows in enumerate(islice(batches, MOST_IDLE * config.max_steps)):
        if inner_step and inner_step % config.every == 0:
            direction, outer_loss = inner.direction(size=config.batch_size)
        weights = batch_weights(problem, rows, outer.weights())
        d = inner.ghost_step(rows, weights, direction)
        drawn = [index for index, row in enumerate(rows) if row in place]
        if len(drawn) < 2:
            continue  # d is centred within the batch, so one row alone says nothing
        outer.step([place[rows[index]] for index in drawn], d[drawn], weights[drawn])
        rankings.append(outer.averaged_weights())
        facts = {"step": outer.steps, "outer_loss": outer_loss, **outer.facts()}
        facts["settled"] = math.nan
        if len(rankings) > SETTLE_WINDOW:
            facts["settled"] = rank_correlation(rankings[-1 - SETTLE_WINDOW], rankings[-1])
        watch(facts)
        if outer.steps == max(1, config.min_steps // 2):
            heads.append(copy.deepcopy(outer.average))
        if outer.steps >= config.min_steps and facts["settled"] > config.settled:
            why = f"ranks settled: {facts['settled']:.3f} over {SETTLE_WINDOW} steps"
            break
        if outer.steps >= config.max_steps:
            why = f"{config.max_steps} outer steps, the most allowed"
            break
    return Learned([*heads, outer.average], outer.steps, why)


class _OuterLevel:
    """The head, its optimiser and its running average."""

    def __init__(self, head: ReweightingHead, features: Tensor, config: OuterConfig) -> None:
        self.head, self.features, self.config = head, features, config
        self.average = copy.deepcopy(head).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.scale = 0.0
        self.steps = 0

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Weights of all synthetic training rows, mean one: (n,)."""
        return self.head.weights(self.head(self.features))

    @torch.no_grad()
    def averaged_weights(self) -> Tensor:
        """The same under the running average of the heads."""
        return self.average.weights(self.average(self.features))

    def step(self, drawn: list[int], d: Tensor, w: Tensor) -> None:
        """Move the head against d: places in the data set, d and weights of the rows drawn.

        d is centred, because mean-one weights cannot answer to what all rows have in common, and
        scaled by its running size, so that the penalty's coefficient means the same on any data.
        """
        centred = d - (d * w).sum() / w.sum()
        size = float(centred.square().mean().sqrt())
        self.scale = size if self.steps == 0 else 0.9 * self.scale + 0.1 * size
        self.steps += 1
        weights = self.head.weights(self.head(self.features))
        concentration = weights.square().mean() / weights.mean().square() - 1
        surrogate = (centred / max(self.scale, 1e-30) * weights[drawn]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (surrogate + self.config.ess_penalty * concentration).backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimizer.step()
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow; its memory is short at first, so that the start is forgotten."""
        keep = min(self.config.average, self.steps / (self.steps + 9))
        for mine, theirs in zip(self.average.parameters(), self.head.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)

    def facts(self) -> dict[str, float]:
        """Numbers of the step just made."""
        weights = self.averaged_weights()
        share = float(effective_sample_size(weights)) / len(weights)
        return {"ess_share": share, "max_weight": float(weights.max()), "d_scale": self.scale}


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


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's rank correlation without ties' correction: (n,), (n,); 0 when one is constant."""
    if len(left) < 2 or bool((left == left[0]).all()) or bool((right == right[0]).all()):
        return 0.0
    ranks = torch.stack([each.argsort().argsort().double() for each in (left, right)])
    return float(torch.corrcoef(ranks)[0, 1])


def _sample(problem: Problem, size: int, generator: torch.Generator) -> tuple[list[int], Tensor]:
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

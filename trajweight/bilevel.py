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
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.inner import InnerLevel, batch_weights
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.config import OuterConfig
    from trajweight.reweighting import ReweightingHead

#: Steps between the two rankings whose correlation says whether ranks have settled.
SETTLE_WINDOW = 10
#: Inner steps an outer step may wait for a batch with two synthetic rows, on average.
MOST_IDLE = 20


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


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's rank correlation without ties' correction: (n,), (n,); 0 when one is constant."""
    if len(left) < 2 or bool((left == left[0]).all()) or bool((right == right[0]).all()):
        return 0.0
    ranks = torch.stack([each.argsort().argsort().double() for each in (left, right)])
    return float(torch.corrcoef(ranks)[0, 1])

"""The two levels in turn: weighted fine-tuning inside, the reweighting head outside.

Each step draws training rows and trains the adapter on their weighted loss; the estimator says how
the outer loss would move if a row counted a little more, and the head follows. With a population,
several adapters of different age take turns, so that the weights do not fit one stage of training.

Reference:
    The scheme of the abstract of BOOST (arXiv 2605.24743); populations of staggered age as in
    DataRater (Calian et al. 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.adamw import stale_preconditioner
from trajweight.problem import Weighing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trajweight.config import OuterConfig
    from trajweight.estimators import Estimate, Estimator, Running
    from trajweight.inner import InnerLevel
    from trajweight.outer import OuterLevel
    from trajweight.reweighting import ReweightingHead

#: Steps between the two rankings whose correlation says whether ranks have settled.
SETTLE_WINDOW = 10
#: Inner steps an outer step may wait for two synthetic rows, on average.
MOST_IDLE = 20
#: Validation rows of the outer gradient that is kept at the end, at most.
LAST_VALIDATION = 256


@dataclass(frozen=True)
class Learned:
    """What the loop leaves.

    Attributes:
        head: The running average of the head.
        steps: Outer steps made.
        stopped_because: A sentence.
    """

    head: ReweightingHead
    steps: int
    stopped_because: str


@dataclass(frozen=True)
class Course:
    """Where a search ended, and which way the outer loss falls from there.

    Kept for whoever asks afterwards what a row, or a part of it, does to the outer loss.

    Attributes:
        theta: The tensors of the adapter, the first one of a population.
        direction: u, one tensor a parameter, so that d_i = -(1/B) <grad l_i(theta), u>: the outer
            gradient at theta, as the next step of AdamW would scale it.
    """

    theta: list[Tensor]
    direction: list[Tensor]


@dataclass
class Member:
    """One adapter of the population.

    Attributes:
        inner: Its inner level.
        running: The estimator at work on it.
        start: The states of both that it goes back to at the end of its life.
        age: Inner steps since then.
    """

    inner: InnerLevel
    running: Running
    start: dict[str, Any]
    age: int

    @classmethod
    def begin(cls, inner: InnerLevel, estimator: Estimator, *, age: int) -> Member:
        """A member whose start is where the inner level stands."""
        running = estimator.begin(inner)
        return cls(inner, running, {"inner": inner.state(), "running": running.state()}, age)

    def rejuvenate(self) -> None:
        """Go back to the start; the stream of batches runs on."""
        now = self.inner.state()
        stream = {name: now[name] for name in ("generator", "waiting", "skipped")}
        self.inner.restore({**self.start["inner"], **stream})
        # What the estimator keeps, a second adapter or an open window, is of the life that ended.
        self.running.restore(self.start["running"])
        self.age = 0


class Search:
    """The loop, a step at a time, so that it can be saved between any two steps.

    Args:
        inners: Inner levels that have made some steps; they share one base and one problem.
        outer: The outer level.
        estimator: Of the hypergradient.
        config: Of the outer level.
    """

    def __init__(
        self,
        inners: Sequence[InnerLevel],
        outer: OuterLevel,
        estimator: Estimator,
        config: OuterConfig,
    ) -> None:
        """Members start at ages spread over a life."""
        self.outer, self.config = outer, config
        self.members = [
            Member.begin(inner, estimator, age=place * config.lifetime // len(inners))
            for place, inner in enumerate(inners)
        ]
        for inner in inners:
            inner.waiting = []  # an epoch over all training rows begins
        self.weighing = Weighing(inners[0].problem)
        self.inner_steps = 0
        self.rankings: list[Tensor] = []
        self.stopped_because = ""

    def step(self) -> dict[str, float] | None:
        """One inner step of one member, and an outer step where it taught something.

        Returns:
            Numbers of the outer step, or None where there was none.

        Raises:
            DivergenceError: If losses or gradients stay non-finite.
        """
        member = self.members[self.inner_steps % len(self.members)]
        self.inner_steps += 1
        if self.inner_steps >= MOST_IDLE * self.config.max_steps:
            self.stopped_because = "batches held too few synthetic rows for an outer step"
        if member.age >= self.config.lifetime:
            member.rejuvenate()
        member.age += 1
        inner = member.inner
        rows = inner.next_batch(inner.problem.training, size=inner.config.batch_size)
        estimate = member.running.step(rows, self.weighing.of(rows, self.outer.weights()))
        return None if estimate is None else self._outer_step(estimate)

    def _outer_step(self, estimate: Estimate) -> dict[str, float] | None:
        place = self.weighing.place
        drawn = [index for index, row in enumerate(estimate.rows) if row in place]
        if len(drawn) < 2:
            return None  # d is centred over the rows drawn, so one alone says nothing
        weights = self.weighing.of(estimate.rows, self.outer.weights())
        places = [place[estimate.rows[index]] for index in drawn]
        self.outer.step(places, estimate.d[drawn].float(), weights[drawn])
        self.rankings = [*self.rankings, self.outer.averaged_weights()][-SETTLE_WINDOW - 1 :]
        settled = math.nan
        if len(self.rankings) > SETTLE_WINDOW:
            settled = rank_correlation(self.rankings[0], self.rankings[-1])
        if self.outer.steps >= self.config.min_steps and settled > self.config.settled:
            self.stopped_because = f"ranks settled: {settled:.3f} over {SETTLE_WINDOW} steps"
        elif self.outer.steps >= self.config.max_steps:
            self.stopped_because = f"{self.config.max_steps} outer steps, the most allowed"
        return {
            "step": self.outer.steps,
            "outer_loss": estimate.outer_loss,
            **self.outer.facts(),
            "settled": settled,
            "skipped": sum(member.inner.skipped for member in self.members),
        }

    def course(self) -> Course | None:
        """Where the search stands and which way the outer loss falls; None where not finite."""
        inner = self.members[0].inner
        rows, share = inner.problem.sample_validation(LAST_VALIDATION, inner.generator)
        losses, gradients = inner.gradient(rows, share)
        scales = stale_preconditioner(inner.optimizer)
        direction = [s * v for s, v in zip(scales, gradients, strict=True)]
        inner.optimizer.zero_grad(set_to_none=True)
        if not all(bool(each.isfinite().all()) for each in (losses, *direction)):
            return None
        return Course([each.detach().clone() for each in inner.parameters], direction)

    def learned(self) -> Learned:
        """What there is so far."""
        return Learned(self.outer.average, self.outer.steps, self.stopped_because)

    def state(self) -> dict[str, Any]:
        """Everything that a later `restore` needs to go on from here."""
        return {
            "members": [
                {
                    "inner": member.inner.state(),
                    "running": member.running.state(),
                    "start": member.start,
                    "age": member.age,
                }
                for member in self.members
            ],
            "outer": self.outer.state(),
            "inner_steps": self.inner_steps,
            "rankings": list(self.rankings),
            "stopped_because": self.stopped_because,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for member, kept in zip(self.members, state["members"], strict=True):
            member.inner.restore(kept["inner"])
            member.running.restore(kept["running"])
            member.start, member.age = kept["start"], kept["age"]
        self.outer.restore(state["outer"])
        self.inner_steps = state["inner_steps"]
        self.rankings = list(state["rankings"])
        self.stopped_because = state["stopped_because"]


def learn(
    search: Search,
    *,
    watch: Callable[[dict[str, float]], None],
    between: Callable[[], None] = lambda: None,
) -> Learned:
    """Step until the ranks of the weights settle.

    Args:
        search: The loop, at its start or anywhere in it.
        watch: Called with the numbers of every outer step.
        between: Called after every step, when the loop can be saved; may raise to leave it.

    Raises:
        DivergenceError: If losses or gradients stay non-finite.
    """
    while not search.stopped_because:
        facts = search.step()
        if facts is not None:
            watch(facts)
        between()
    return search.learned()


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's rank correlation without ties' correction: (n,), (n,); 0 when one is constant."""
    if len(left) < 2 or bool((left == left[0]).all()) or bool((right == right[0]).all()):
        return 0.0
    ranks = torch.stack([each.argsort().argsort().double() for each in (left, right)])
    return float(torch.corrcoef(ranks)[0, 1])

"""Which weights serve the model best? Short trainings from one state on the same batches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from trajweight.problem import Weighing

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

Key = TypeVar("Key")


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
    candidates: dict[Key, Tensor],
    *,
    steps: int,
    judge: Rows,
    watch: Callable[[], None],
) -> dict[Key, Result]:
    """Train from one state with each candidate's weights on the same batches, and compare.

    Args:
        inner: The inner level; it is left as it was.
        start: The state every run starts from.
        candidates: Weights of the synthetic training rows, by name. Shape (n,) each.
        steps: Inner steps of each run.
        judge: Rows that choose between the candidates.
        watch: Called after each run.
    """
    before = inner.state()
    problem = inner.problem
    found: dict[Key, Result] = {}
    weighing = Weighing(problem)
    for name, weights in candidates.items():
        inner.restore(start)
        batches = inner.batches(problem.training, size=2 * inner.config.batch_size)
        for rows in islice(batches, steps):
            inner.step(rows, weighing.of(rows, weights))
        found[name] = Result(problem.evaluate(judge), problem.outer_loss())
        watch()
    inner.restore(before)
    return found

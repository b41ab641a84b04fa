"""Training with uniform weights until the outer loss no longer falls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

#: Steps between two looks at the outer loss during a warm-up.
LOOK_EVERY = 4
#: A warm-up is over when so many looks in a row found no outer loss 2 % below the best before.
PATIENCE = 2
LESS = 0.98
#: Past this many times the least number of steps a loss that still falls is no longer waited for.
SLOW = 4


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
    looked_at, share = inner.problem.sample_validation(sample, inner.generator)

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

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

#: Steps between two looks at the outer loss.
LOOK_EVERY = 4
#: The outer loss is flat when it is not below this share of what it was one look before. A few
#: dozen validation rows move by some ten per cent from look to look while nothing is learned.
FLAT = 0.85
#: Past this many times the least number of steps a loss that still falls is no longer waited for.
SLOW = 4


@dataclass(frozen=True, slots=True)
class Warmed:
    """How a warm-up ended.

    Attributes:
        steps: Steps made.
        is_flat: Whether the outer loss was flat at the end.
    """

    steps: int
    is_flat: bool

    def __str__(self) -> str:
        """For the user."""
        return f"{self.steps} steps, the outer loss {'flat' if self.is_flat else 'still falling'}"


def train_until_flat(
    inner: InnerLevel,
    rows: Rows,
    *,
    size: int,
    least: int,
    sample: int,
    watch: Callable[[float], None],
) -> Warmed:
    """Train with weight one on every row until the outer loss is flat.

    The training loss cannot tell: on few real rows it falls on and on, while the model learns
    them by heart.

    Args:
        inner: The inner level; it is left at the last step.
        rows: What to train on.
        size: Rows of a batch.
        least: Steps at least; after ``SLOW`` times as many the loss is no longer waited for.
        sample: Validation rows of one look, at most.
        watch: Told the training loss of every step.
    """
    looked_at, share = inner.problem.sample_validation(sample, inner.generator)
    before = float("inf")
    for step, batch in enumerate(islice(inner.batches(rows, size=size), SLOW * least), start=1):
        watch(inner.step(batch, torch.ones(len(batch))))
        beyond = step - least
        if beyond < -LOOK_EVERY or beyond % LOOK_EVERY:
            continue
        now = float((inner.problem.evaluate(looked_at) * share).sum())
        if beyond >= 0 and now >= FLAT * before:
            return Warmed(step, is_flat=True)
        before = now
    return Warmed(SLOW * least, is_flat=False)

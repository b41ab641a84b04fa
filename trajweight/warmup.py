"""Training with uniform weights until the loss is flat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

#: Steps whose mean loss is compared with that of as many before.
WINDOW = 5
#: The loss is flat when the mean fell by less than a tenth from one window to the next.
FLAT = 0.9
#: Past this many times the least number of steps a loss that still falls is no longer waited for.
SLOW = 4


@dataclass(frozen=True, slots=True)
class Warmed:
    """How a warm-up ended.

    Attributes:
        steps: Steps made.
        is_flat: Whether the loss was flat at the end.
    """

    steps: int
    is_flat: bool

    def __str__(self) -> str:
        """For the user."""
        return f"{self.steps} steps, the loss {'flat' if self.is_flat else 'still falling'}"


def train_until_flat(
    inner: InnerLevel, rows: Rows, *, size: int, least: int, watch: Callable[[float], None]
) -> Warmed:
    """Train with weight one on every row until the training loss is flat.

    The training loss decides, not the outer one: on the sample data an adapter that was stopped
    where its outer loss was lowest told good rows from bad ones less well.

    Args:
        inner: The inner level; it is left at the last step.
        rows: What to train on.
        size: Rows of a batch.
        least: Steps at least; after ``SLOW`` times as many the loss is no longer waited for.
        watch: Told the loss of every step.
    """
    losses: list[float] = []
    for batch in islice(inner.batches(rows, size=size), SLOW * least):
        losses.append(inner.step(batch, torch.ones(len(batch))))
        watch(losses[-1])
        if len(losses) >= least and _is_flat(losses):
            return Warmed(len(losses), is_flat=True)
    return Warmed(len(losses), is_flat=False)


def _is_flat(losses: Sequence[float]) -> bool:
    last, before = losses[-WINDOW:], losses[-2 * WINDOW : -WINDOW]
    return len(before) == WINDOW and sum(last) > FLAT * sum(before)

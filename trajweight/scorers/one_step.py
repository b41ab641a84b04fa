"""One step ahead and back again: what both rivals that learn weights on the fly stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from trajweight.estimators import Estimate, Running
    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

#: What goes on though the step is taken back: which rows come next, and what was not finite.
_GOES_ON = ("generator", "waiting", "skipped", "skipped_in_a_row")


def foreseen(inner: InnerLevel, running: Running, rows: Rows, weights: Tensor) -> Estimate | None:
    """What a step would teach; adapter and optimiser are as they were before it.

    Args:
        inner: The inner level that the estimator works on.
        running: The estimator.
        rows: The batch.
        weights: Of its rows. Shape (b,).
    """
    before = inner.state()
    found = running.step(rows, weights)
    now = inner.state()
    inner.restore({**before, **{name: now[name] for name in _GOES_ON}})
    return found


def visits(inner: InnerLevel, rows: Rows, times: int) -> Iterator[list[int]]:
    """Batches in which every row comes ``times`` times at least."""
    inner.waiting = []
    size = inner.config.batch_size
    for _ in range(-(-times * len(rows) // min(size, len(rows)))):
        yield inner.next_batch(rows, size=size)

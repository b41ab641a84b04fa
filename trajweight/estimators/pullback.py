"""One exact inner step and the direction in which the rows' gradients are to be read.

With theta' = theta - U(g), g = (1/B) sum_i w_i grad l_i(theta) and v the outer gradient,

    d_i = dL_val / dw_i = (1/B) <grad l_i(theta), u>,    u = (d theta' / dg)^T v,

where u goes back through decoupled decay, Adam with its bias corrections and the clipping of g.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from trajweight.adamw import Cotangent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows

#: Where the outer gradient is taken: before the inner step, as Ren et al. 2018 do, or after it,
#: which is exact. They differ by the order of the learning rate.
At = Literal["theta", "theta_next"]


@dataclass(frozen=True)
class Pullback:
    """What an exact inner step leaves.

    Attributes:
        direction: u above, one tensor a parameter.
        theta: The parameters before the step.
        outer_loss: The outer loss where its gradient was taken.
    """

    direction: list[Tensor]
    theta: list[Tensor]
    outer_loss: float


def pull_back(
    inner: InnerLevel, rows: Rows, weights: Tensor, *, at: At, size: int
) -> Pullback | None:
    """Make one inner step and bring the outer gradient back through it.

    Args:
        inner: The inner level; it is left after the step.
        rows: The batch.
        weights: Of its rows. Shape (b,).
        at: Where the outer gradient is taken.
        size: Validation rows of it, at most.

    Returns:
        None where a loss or a gradient was not finite; the step is skipped then, or made without
        an answer.
    """
    theta = [parameter.detach().clone() for parameter in inner.parameters]
    outer = inner.outer_gradient(size=size) if at == "theta" else None
    step = inner.recorded_step(rows, weights)
    if at == "theta_next":
        outer = inner.outer_gradient(size=size)
    if step is None or outer is None:
        return None
    direction, _ = step.back(Cotangent.at_end(outer.by_parameter))
    return Pullback(direction, theta, outer.loss)


@contextmanager
def held_at(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Give the parameters other values while the block runs; bit for bit as before after it."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        _put(parameters, values)
        yield
    finally:
        _put(parameters, kept)


@torch.no_grad()
def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
    # Under autocast the low-precision copies of parameters outlive a change of them.
    torch.clear_autocast_cache()


def length_of(tensors: Sequence[Tensor]) -> float:
    """Euclidean length of all the tensors together."""
    return float(torch.nn.utils.get_total_norm(tensors))

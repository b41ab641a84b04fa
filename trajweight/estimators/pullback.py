"""One exact inner step and the direction in which the rows' gradients are to be read.

With theta' = theta - U(g), g = (1/B) sum_i w_i grad l_i(theta) and v the outer gradient,

    d_i = dL_val / dw_i = (1/B) <grad l_i(theta), u>,    u = (d theta' / dg)^T v,

where u goes back through decoupled decay, Adam with its bias corrections and the clipping of g.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from trajweight.adamw import Cotangent
from trajweight.estimators.protocol import Estimate

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


class PulledBackKnobs(Protocol):
    """What every estimator of one exact step can be told."""

    @property
    def every(self) -> int:
        """Inner steps between two estimates."""

    @property
    def at(self) -> At:
        """Where the outer gradient is taken."""

    @property
    def validation_size(self) -> int:
        """Validation rows of one outer gradient, at most."""


class RunningPulledBack(ABC):
    """Inner steps, every so often one whose pullback is read along the rows' gradients."""

    def __init__(self, knobs: PulledBackKnobs, inner: InnerLevel) -> None:
        """The first step gives an estimate."""
        self.every, self.at, self.size = knobs.every, knobs.at, knobs.validation_size
        self.inner = inner
        self.made = 0

    @abstractmethod
    def products(self, rows: Rows, pulled: Pullback) -> Tensor:
        """<grad l_i, u> of every row where the step began: (b,)."""

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One inner step, and the products where an estimate is due; see `Running`."""
        self.made += 1
        if (self.made - 1) % self.every:
            self.inner.step(rows, weights)
            return None
        pulled = pull_back(self.inner, rows, weights, at=self.at, size=self.size)
        if pulled is None:
            return None
        products = self.products(rows, pulled)
        return Estimate.if_finite(rows, products / len(rows), pulled.outer_loss)

    def state(self) -> dict[str, Any]:
        """See `Running`."""
        return {"made": self.made}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        self.made = state["made"]


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

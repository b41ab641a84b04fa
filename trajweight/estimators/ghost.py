"""The ghost product: every d_i out of an ordinary backward pass, by hooks on the LoRA linears.

For a linear y = W x the gradient of l_i is sum_t g_t x_t^T, so its product with a direction V is
sum_t g_t . (V x_t): two thin products, and no gradient per trajectory is ever formed.

Reference:
    One step as in Ren et al. 2018 (arXiv 1803.09050), preconditioned as in SAMA (arXiv
    2310.05674); products inside the backward pass as in GREATS (NeurIPS 2024), for LoRA.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajweight.adamw import stale_preconditioner
from trajweight.errors import ConfigError
from trajweight.estimators.protocol import Estimate
from trajweight.estimators.pullback import At, Pullback, RunningPulledBack, held_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.inner import InnerLevel
    from trajweight.problem import Problem, Rows


@dataclass(frozen=True, slots=True)
class Ghost:
    """The default estimator.

    Attributes:
        every: Inner steps between two outer gradients.
        fused: Read d out of the training pass itself. The direction must be known before it, so
            it goes back through Adam without the batch's own part of the second moment and of the
            clipping; every step gives d, with the last outer gradient. Otherwise the pass over the
            rows is made again, d is exact for one step, and comes with every outer gradient.
        at: Where the outer gradient is taken; "theta_next" needs ``fused=False``.
        validation_size: Validation rows of one outer gradient, at most.
    """

    every: int = 1
    fused: bool = True
    at: At = "theta"
    validation_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.fused and self.at != "theta":
            message = "a fused ghost pass knows the outer gradient at theta only"
            raise ConfigError(message, hint="Choose fused=False with at='theta_next'.")

    def begin(self, inner: InnerLevel) -> FusedGhost | ExactGhost:
        """Start on an inner level."""
        return FusedGhost(self, inner) if self.fused else ExactGhost(self, inner)


class FusedGhost:
    """Ghost products inside the training pass."""

    def __init__(self, knobs: Ghost, inner: InnerLevel) -> None:
        """The first step takes an outer gradient."""
        self.knobs, self.inner = knobs, inner
        self.made = 0
        self.direction: list[Tensor] = []
        self.outer_loss = float("nan")

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One training pass; see `Running`."""
        if self.made % self.knobs.every == 0:
            self._look_out()
        self.made += 1
        if not self.direction:
            self.inner.step(rows, weights)
            return None
        inner = self.inner
        inner.optimizer.zero_grad(set_to_none=True)
        losses, products = watched(inner.problem, rows, weights / len(rows), self.direction)
        inner.add_up(losses, products)
        if not inner.apply(rows, losses):
            return None
        # The pass was of (1/B) sum_i w_i l_i, so each product holds w_i / B already.
        return Estimate.if_finite(rows, -products / weights, self.outer_loss)

    def _look_out(self) -> None:
        outer = self.inner.outer_gradient(size=self.knobs.validation_size)
        if outer is None:  # counted by the inner level; the last direction still serves
            return
        scales = stale_preconditioner(self.inner.optimizer)
        self.direction = [s * v for s, v in zip(scales, outer.by_parameter, strict=True)]
        self.outer_loss = outer.loss

    def state(self) -> dict[str, Any]:
        """See `Running`."""
        return {
            "made": self.made,
            "direction": [each.clone() for each in self.direction],
            "outer_loss": self.outer_loss,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        self.made, self.outer_loss = state["made"], state["outer_loss"]
        self.direction = [each.clone() for each in state["direction"]]


class ExactGhost(RunningPulledBack):
    """The exact inner step, and then a second pass over its rows where it began."""

    def products(self, rows: Rows, pulled: Pullback) -> Tensor:
        """See `RunningPulledBack`."""
        with held_at(self.inner.parameters, pulled.theta):
            return ghost_pass(self.inner, rows, pulled.direction)


def ghost_pass(inner: InnerLevel, rows: Rows, direction: Sequence[Tensor]) -> Tensor:
    """<grad l_i, direction> of every row where the parameters stand: (b,)."""
    inner.optimizer.zero_grad(set_to_none=True)
    _, products = watched(inner.problem, rows, torch.ones(len(rows)), direction)
    inner.optimizer.zero_grad(set_to_none=True)
    inner.problem.processes.add_up([products])
    return products


def watched(
    problem: Problem, rows: Rows, coefficients: Tensor, direction: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The backward passes of sum_i c_i l_i, with the product of each row's part and a direction.

    Args:
        problem: Its parameters get the gradient, of this process's rows.
        rows: A batch.
        coefficients: c. Shape (b,).
        direction: One tensor a parameter.

    Returns:
        l_i and c_i <grad l_i, direction>, zero for the rows of other processes. Shape (b,) each.
    """
    losses = torch.zeros(len(rows), dtype=_precision(problem.linears))
    products = losses.clone()
    for places in problem.passes(rows):
        with ghost_products(problem.linears, direction, batch_size=len(places)) as found:
            part = problem.apart([rows[place] for place in places])
            (part * coefficients[places].to(part.device)).sum().backward()
        losses[places] = part.detach().to(losses)
        products[places] = found.to(products)
    return losses, products


def trainable_linears(model: nn.Module) -> list[nn.Linear]:
    """The linears that hold every trainable tensor of a model.

    Raises:
        ValueError: If a trainable tensor is outside a linear without bias; the message names it.
    """
    linears = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    covered = {id(module.weight) for module in linears}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in covered:
            message = f"the ghost product covers weights of linears only; {name} is trained too"
            raise ValueError(message)
    return linears


@contextmanager
def ghost_products(
    linears: Sequence[nn.Linear], directions: Sequence[Tensor], *, batch_size: int
) -> Iterator[Tensor]:
    """Collect <grad of the backward loss due to row i, direction> for every row of a batch.

    Inside the block, run one forward on a batch of ``batch_size`` rows and one backward of
    sum_i c_i l_i; afterwards the tensor holds c_i <grad l_i, V> for every row.

    Args:
        linears: Trainable linears; each sees inputs of shape (b, ..., in).
        directions: A direction for each weight, of the weight's shape (out, in).
        batch_size: Rows of the batch, one trajectory each.

    Yields:
        The products, filled in by the backward pass. Shape (b,).
    """
    products = torch.zeros(batch_size, dtype=_precision(linears), device=linears[0].weight.device)

    def add(projected: Tensor, gradient: Tensor) -> None:
        products.add_((gradient * projected).flatten(1).sum(1))

    def watch(
        _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, *, direction: Tensor
    ) -> None:
        if output.requires_grad:
            with torch.no_grad():
                projected = nn.functional.linear(inputs[0].to(direction.dtype), direction)
            output.register_hook(partial(add, projected))

    handles = [
        linear.register_forward_hook(partial(watch, direction=direction))
        for linear, direction in zip(linears, directions, strict=True)
    ]
    try:
        yield products
    finally:
        for handle in handles:
            handle.remove()


def _precision(linears: Sequence[nn.Linear]) -> torch.dtype:
    """What products are summed in: at least fp32, and fp64 where the adapter is."""
    return torch.promote_types(linears[0].weight.dtype, torch.float32)

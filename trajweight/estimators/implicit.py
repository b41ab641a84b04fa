"""Implicit differentiation: how the minimum of the weighted loss itself moves with a weight.

    d_i = -(1/n) <grad l_i, z>,    (H + damping) z = v,    H = Hessian of (1/n) sum_i w_i l_i

by conjugate gradients. Exact at a minimum and a guess anywhere else; for small models and for
analysis rather than for training.

Reference:
    Pedregosa 2016 (arXiv 1602.02355); conjugate gradients, Hestenes & Stiefel 1952.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.estimators.ghost import ghost_pass
from trajweight.estimators.protocol import Estimate
from trajweight.estimators.unrolled import hessian_product

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows


@dataclass(frozen=True, slots=True)
class Implicit:
    """Conjugate gradients with damping.

    Attributes:
        every: Inner steps between two estimates.
        iterations: Of conjugate gradients, at most; each costs two gradients of the window.
        damping: Added to the Hessian, relative to its curvature along the outer gradient.
        window: Last batches whose weighted loss is taken for the inner level's.
        validation_size: Validation rows of one outer gradient, at most.
    """

    every: int = 4
    iterations: int = 5
    damping: float = 1e-2
    window: int = 4
    validation_size: int = 64

    def begin(self, inner: InnerLevel) -> RunningImplicit:
        """Start on an inner level."""
        return RunningImplicit(self, inner)


class RunningImplicit:
    """The last batches, and every so often a linear system over them."""

    def __init__(self, knobs: Implicit, inner: InnerLevel) -> None:
        """The first step gives an estimate."""
        self.knobs, self.inner = knobs, inner
        self.made = 0
        self.window: list[tuple[Rows, Tensor]] = []

    def step(self, rows: Rows, weights: Tensor) -> Estimate | None:
        """One training pass, and every so often a linear system after it; see `Running`."""
        self.made += 1
        losses, _ = self.inner.gradient(rows, weights / len(rows))
        if not self.inner.apply(rows, losses):  # what is not finite must not enter the window
            return None
        self.window = [*self.window, (rows, weights)][-self.knobs.window :]
        if (self.made - 1) % self.knobs.every:
            return None
        outer = self.inner.outer_gradient(size=self.knobs.validation_size)
        if outer is None:
            return None
        n = sum(len(batch) for batch, _ in self.window)
        terms = [(batch, each / n) for batch, each in self.window]
        theta = [parameter.detach().clone() for parameter in self.inner.parameters]

        def curvature(direction: Tensor) -> Tensor:
            return _flat(hessian_product(self.inner, terms, theta, _like(direction, theta)))

        solution = conjugate_gradients(
            curvature,
            _flat(outer.by_parameter),
            iterations=self.knobs.iterations,
            damping=self.knobs.damping,
        )
        products = ghost_pass(self.inner, rows, _like(solution, theta))
        return Estimate.if_finite(rows, -products / n, outer.loss)

    def state(self) -> dict[str, Any]:
        """See `Running`."""
        return {"made": self.made, "window": list(self.window)}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Running`."""
        self.made, self.window = state["made"], list(state["window"])


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    iterations: int,
    damping: float,
    tolerance: float = 1e-10,
) -> Tensor:
    """Solve (H + damping h) z = right with h the curvature of H along the right side.

    Ends early where the curvature is not positive: away from a minimum H need not be, and what
    has been found so far is the best there is.

    Args:
        multiply: H times a vector.
        right: Shape (p,).
        iterations: At most.
        damping: See above.
        tolerance: Of the residual, relative to ``right``.

    Returns:
        z, of shape (p,); ``right`` over |h| where the curvature along it is not positive.
    """
    first = multiply(right)
    along = float(right @ first) / max(float(right @ right), torch.finfo(right.dtype).tiny)
    shift = damping * abs(along)
    if along + shift <= 0:
        return right / max(abs(along), torch.finfo(right.dtype).tiny)
    z, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    product, size = first + shift * right, float(right @ right)
    enough = tolerance**2 * size
    for iteration in range(iterations):
        if iteration:
            product = multiply(direction) + shift * direction
        curved = float(direction @ product)
        if curved <= 0 or size <= enough:
            break
        length = size / curved
        z = z + length * direction
        residual = residual - length * product
        size, last = float(residual @ residual), size
        direction = residual + size / last * direction
    return z


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in tensors])


def _like(flat: Tensor, shapes: list[Tensor]) -> list[Tensor]:
    parts = flat.split([each.numel() for each in shapes])
    return [part.view_as(each) for part, each in zip(parts, shapes, strict=True)]

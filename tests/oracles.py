"""The slow, obvious twins that judge the fast code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def per_sample_products(
    losses: Callable[[], Tensor], parameters: Sequence[Tensor], directions: Sequence[Tensor]
) -> Tensor:
    """<grad l_i, direction> one row at a time, by autograd: (b,)."""
    values = losses()
    found = []
    for value in values:
        gradients = torch.autograd.grad(value, list(parameters), retain_graph=True)
        pairs = zip(gradients, directions, strict=True)
        found.append(
            torch.stack([(gradient * direction).sum() for gradient, direction in pairs]).sum()
        )
    return torch.stack(found)


def adam_update(
    gradient: Tensor,
    state: dict[str, Tensor],
    *,
    rate: float,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    """What one Adam step subtracts from a parameter, differentiable in the gradient."""
    step = float(state["step"]) + 1
    first = betas[0] * state["exp_avg"] + (1 - betas[0]) * gradient
    second = betas[1] * state["exp_avg_sq"] + (1 - betas[1]) * gradient.square()
    corrected = first / (1 - betas[0] ** step)
    return rate * corrected / ((second / (1 - betas[1] ** step)).sqrt() + eps)

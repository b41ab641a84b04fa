"""The slow, obvious twins that judge the fast code.

What differentiates twice, or forward, takes the plain attention kernel; the fused ones cannot.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trajweight.inner import InnerLevel

    Batch = tuple[Sequence[int], Tensor]


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


@sdpa_kernel(SDPBackend.MATH)
def double_backward_products(
    losses: Callable[[], Tensor], parameters: Sequence[Tensor], directions: Sequence[Tensor]
) -> Tensor:
    """The same as the derivative by u of <grad of sum_i u_i l_i, direction>: (b,)."""
    values = losses()
    shares = torch.ones_like(values, requires_grad=True)
    gradients = torch.autograd.grad((shares * values).sum(), list(parameters), create_graph=True)
    (found,) = torch.autograd.grad(inner_product(gradients, directions), shares)
    return found


@sdpa_kernel(SDPBackend.MATH)
def forward_products(
    losses: Callable[[], Tensor], linears: Sequence[nn.Linear], directions: Sequence[Tensor]
) -> Tensor:
    """The same by forward-mode differentiation of the vector of losses: (b,)."""

    def losses_at(*theta: Tensor) -> Tensor:
        with standing_at(linears, theta):
            return losses()

    theta = tuple(linear.weight.detach().clone() for linear in linears)
    with warnings.catch_warnings():
        # torch's own forward mode asks for torch.jit.script, which torch is about to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Tensor = torch.func.jvp(losses_at, theta, tuple(directions))[1]
    return found


@contextmanager
def standing_at(linears: Sequence[nn.Linear], theta: Sequence[Tensor]) -> Iterator[None]:
    """Let the linears compute with these tensors, so that autograd can see where they came from."""
    kept = [linear._parameters.pop("weight") for linear in linears]
    try:
        for linear, tensor in zip(linears, theta, strict=True):
            object.__setattr__(linear, "weight", tensor)
        yield
    finally:
        for linear, parameter in zip(linears, kept, strict=True):
            object.__delattr__(linear, "weight")
            linear._parameters["weight"] = parameter


def inner_product(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """<left, right> over all tensors."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


@dataclass(frozen=True)
class AdamWSettings:
    """What a clipped step of AdamW is made with; ``number`` counts from one."""

    rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_norm: float
    number: int


@dataclass(frozen=True)
class Adapted:
    """Parameters with their moments."""

    theta: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]

    @classmethod
    def of(cls, inner: InnerLevel) -> Adapted:
        """Copies of what an inner level holds; no moments yet are zeros."""
        states = [inner.optimizer.state[parameter] for parameter in inner.parameters]
        return cls(
            [parameter.detach().clone() for parameter in inner.parameters],
            *(
                [
                    state[name].clone() if state else torch.zeros_like(parameter)
                    for state, parameter in zip(states, inner.parameters, strict=True)
                ]
                for name in ("exp_avg", "exp_avg_sq")
            ),
        )


def settings_of(inner: InnerLevel) -> AdamWSettings:
    """Of the next step of an inner level."""
    group = inner.optimizer.param_groups[0]
    state = inner.optimizer.state[inner.parameters[0]]
    return AdamWSettings(
        rate=group["lr"],
        betas=group["betas"],
        eps=group["eps"],
        weight_decay=group["weight_decay"],
        max_norm=inner.config.max_grad_norm,
        number=int(state["step"]) + 1 if state else 1,
    )


def functional_adamw(
    at: Adapted, gradient: Sequence[Tensor], settings: AdamWSettings, *, clips: bool | None = None
) -> Adapted:
    """Clip, decay, step: torch's own order, as a function that autograd can go back through.

    Args:
        at: Where the step begins.
        gradient: Before clipping.
        settings: Of the step.
        clips: Whether the norm is expected to be above the limit; checked where given.
    """
    norm = inner_product(gradient, gradient).sqrt()
    factor = settings.max_norm / (norm + 1e-6)
    assert clips is None or clips == bool(factor < 1), f"the gradient's norm is {float(norm)}"
    if factor < 1:
        gradient = [factor * each for each in gradient]
    (beta1, beta2), number = settings.betas, settings.number
    theta, means, squares = [], [], []
    for t, m, s, g in zip(at.theta, at.means, at.squares, gradient, strict=True):
        means.append(beta1 * m + (1 - beta1) * g)
        squares.append(beta2 * s + (1 - beta2) * g.square())
        mean = means[-1] / (1 - beta1**number)
        # A root has no slope at zero, where neither gradient nor moment ever was anything else.
        square = squares[-1] / (1 - beta2**number)
        root = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
        decayed = t * (1 - settings.rate * settings.weight_decay)
        theta.append(decayed - settings.rate * mean / (root + settings.eps))
    return Adapted(theta, means, squares)


@sdpa_kernel(SDPBackend.MATH)
def true_d(
    inner: InnerLevel,
    batches: Sequence[Batch],
    *,
    at: Literal["theta", "theta_next"] = "theta_next",
    clips: bool | None = None,
) -> tuple[list[Tensor], Adapted]:
    """Derivatives of the outer loss by every weight of every step, by autograd through all steps.

    Args:
        inner: Where the steps begin; it is left as it is.
        batches: Rows and weights of each step.
        at: "theta" takes the outer gradient before the last step instead of after it.
        clips: Whether every gradient is expected to be clipped; checked where given.

    Returns:
        d of each batch, and where the steps end.
    """
    problem, settings = inner.problem, settings_of(inner)
    shares = problem.validation_share

    def outer(theta: Sequence[Tensor]) -> Tensor:
        with standing_at(problem.linears, theta):
            return (problem.apart(problem.validation) * shares).sum()

    here = Adapted.of(inner)
    here = Adapted([each.requires_grad_() for each in here.theta], here.means, here.squares)
    start, leaves = here, []
    for place, (rows, weights) in enumerate(batches):
        leaves.append(weights.detach().clone().requires_grad_())
        with standing_at(problem.linears, here.theta):
            loss = (problem.apart(rows) * leaves[-1]).mean()
        gradient = torch.autograd.grad(loss, here.theta, create_graph=True)
        step = replace(settings, number=settings.number + place)
        here = functional_adamw(here, gradient, step, clips=clips)
    if at == "theta_next":
        target = outer(here.theta)
    else:
        v = torch.autograd.grad(outer(start.theta), start.theta)
        target = inner_product(here.theta, v)
    found = list(torch.autograd.grad(target, leaves))
    ends = ([t.detach() for t in each] for each in (here.theta, here.means, here.squares))
    return found, Adapted(*ends)


def moved_weight_slopes(inner: InnerLevel, rows: Sequence[int], weights: Tensor) -> Tensor:
    """Central differences of the outer loss after really stepping with one weight moved: (b,)."""
    start, step = inner.state(), 1e-3

    def outer_after(moved: Tensor) -> float:
        inner.restore(start)
        inner.step(rows, moved)
        return inner.problem.outer_loss()

    slopes = [
        (outer_after(weights + step * unit) - outer_after(weights - step * unit)) / (2 * step)
        for unit in torch.eye(len(rows), dtype=weights.dtype)
    ]
    inner.restore(start)
    return torch.tensor(slopes, dtype=weights.dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Length of the difference over the length of what was expected."""
    return float((found - expected).norm() / expected.norm())

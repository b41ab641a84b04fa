"""One clipped step of AdamW, and the way back through it.

With g the batch gradient before clipping, c = max_norm / |g| where it is clipped, t the number of
the step and primes for values after it,

    m' = b1 m + (1 - b1) c g,    v' = b2 v + (1 - b2) (c g)^2,    c1 = 1 - b1^t,    c2 = 1 - b2^t,
    theta' = (1 - lr wd) theta - lr (m' / c1) / (sqrt(v' / c2) + eps)

is a map of (theta, m, v, g). `AdamStep.back` applies the transpose of its derivative, exactly, to
cotangents of (theta', m', v'); no graph is kept for it.

Reference:
    Loshchilov & Hutter 2019 (arXiv 1711.05101); the recursion through several steps as in
    reverse-mode hyperparameter optimisation, Maclaurin et al. 2015 (arXiv 1502.03492).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What torch.nn.utils.clip_grad_norm_ adds to the norm before it divides.
CLIP_EPSILON = 1e-6


@dataclass(frozen=True)
class Cotangent:
    """Derivatives of a later loss by the parameters, the first and the second moments.

    Attributes:
        theta: By the parameters.
        mean: By the running means of the gradient.
        square: By the running means of its square.
    """

    theta: list[Tensor]
    mean: list[Tensor]
    square: list[Tensor]

    @classmethod
    def at_end(cls, theta: Sequence[Tensor]) -> Cotangent:
        """After the last step nothing depends on the moments any more."""
        zeros = [torch.zeros_like(each) for each in theta]
        return cls(list(theta), zeros, zeros)


@dataclass(frozen=True)
class AdamStep:
    """What must be kept of a step to go back through it.

    Attributes:
        rate: Learning rate of the step.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Decoupled weight decay.
        number: Of the step, from one.
        clipping: What the gradient was multiplied with, at most one.
        norm: Of the gradient before clipping.
        gradients: After clipping.
        means: First moments after the step.
        squares: Second moments after the step.
    """

    rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    number: int
    clipping: float
    norm: float
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]

    def back(self, after: Cotangent) -> tuple[list[Tensor], Cotangent]:
        """From cotangents after the step to that of g and, apart from g, those before it.

        Returns:
            The cotangent of the gradient before clipping, and of (theta, m, v) with g held
            fixed: where g depends on theta, the caller adds its Hessian product.
        """
        (beta1, beta2), theta = self.betas, after.theta
        by_gradient, by_mean, by_square = [], [], []
        for a, b, c, g, mean, square in zip(
            theta, after.mean, after.square, self.gradients, self.means, self.squares, strict=True
        ):
            c1, c2 = 1 - beta1**self.number, 1 - beta2**self.number
            root = (square / c2).sqrt()
            scale = root + self.eps
            d_mean = b - self.rate * a / (c1 * scale)
            d_root = self.rate * a * (mean / c1) / scale.square()
            # Where the second moment is zero so is the gradient, and with it what would be divided.
            d_square = c + torch.where(root > 0, d_root / (2 * c2 * root), 0.0)
            by_gradient.append((1 - beta1) * d_mean + 2 * (1 - beta2) * g * d_square)
            by_mean.append(beta1 * d_mean)
            by_square.append(beta2 * d_square)
        decay = 1 - self.rate * self.weight_decay
        before = Cotangent([decay * each for each in theta], by_mean, by_square)
        return self._through_clipping(by_gradient), before

    def _through_clipping(self, cotangent: list[Tensor]) -> list[Tensor]:
        if self.clipping == 1:
            return cotangent
        # gradients are c g, so dividing by c |g| gives g / |g| at once
        length = self.clipping * self.norm
        along = (
            sum(float((u * g).sum()) for u, g in zip(cotangent, self.gradients, strict=True))
            / length
        )
        share = along * self.norm / (self.norm + CLIP_EPSILON) / length
        return [
            self.clipping * (u - share * g) for u, g in zip(cotangent, self.gradients, strict=True)
        ]


def adamw_step(optimizer: torch.optim.AdamW, max_norm: float) -> None:
    """Clip the gradients that lie in the parameters, and step."""
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], max_norm)
    optimizer.step()
    # Under autocast the low-precision copies of parameters outlive a change of them.
    torch.clear_autocast_cache()


def recorded_adamw_step(optimizer: torch.optim.AdamW, max_norm: float) -> AdamStep:
    """The same step, with what the way back needs; the optimiser has one parameter group."""
    settings: dict[str, Any] = optimizer.param_groups[0]
    parameters: list[Tensor] = settings["params"]
    norm = float(nn.utils.get_total_norm([gradient_of(each) for each in parameters]))
    adamw_step(optimizer, max_norm)
    states = [optimizer.state[parameter] for parameter in parameters]
    gradients = [gradient_of(parameter).clone() for parameter in parameters]
    return AdamStep(
        rate=settings["lr"],
        betas=settings["betas"],
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        number=max((int(state["step"]) for state in states if state), default=1),
        clipping=min(1.0, max_norm / (norm + CLIP_EPSILON)),
        norm=norm,
        gradients=gradients,
        means=[_moment(s, "exp_avg", g) for s, g in zip(states, gradients, strict=True)],
        squares=[_moment(s, "exp_avg_sq", g) for s, g in zip(states, gradients, strict=True)],
    )


def _moment(state: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    """A copy of a moment; zero for a parameter that no gradient has reached yet."""
    return state[name].clone() if name in state else torch.zeros_like(like)


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that lies in a parameter; zeros where no pass reached it."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def stale_preconditioner(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Derivative of the next update by its gradient as far as it is known before that gradient.

    lr (1 - b1) / (c1 (sqrt(v / c2) + eps)), elementwise, with the moments as they stand. Left out
    are the part through the second moment and that through clipping, since both need the batch
    gradient. With b2 = 0.99 and noisy gradients the first is a quarter of the whole after 34 steps
    and a tenth after 100.

    Returns:
        One tensor a parameter, of its shape; zeros where no gradient has reached it yet.
    """
    settings: dict[str, Any] = optimizer.param_groups[0]
    rate, eps = settings["lr"], settings["eps"]
    beta1, beta2 = settings["betas"]
    derivatives = []
    for parameter in settings["params"]:
        state = optimizer.state[parameter]
        if not state:
            derivatives.append(torch.zeros_like(parameter))
            continue
        step = float(state["step"])
        root = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt()
        derivatives.append(rate * (1 - beta1) / (1 - beta1**step) / (root + eps))
    return derivatives

"""Small problems of known truth.

Three Gaussian classes, where some synthetic rows have wrong labels; a bent network, which is convex
nowhere in particular; and weighted ridge regression, where everything has a closed form.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.bilevel import Search
from trajweight.config import InnerConfig, OuterConfig
from trajweight.estimators import Estimator, Ghost
from trajweight.inner import InnerLevel
from trajweight.material import Material
from trajweight.outer import OuterLevel
from trajweight.problem import Problem
from trajweight.reweighting import HeadShape, Prior, new_head

if TYPE_CHECKING:
    from collections.abc import Sequence

N_REAL, N_SYNTHETIC, N_VALIDATION, INPUTS, CLASSES = 12, 160, 80, 6, 3
BENT_TRAINING, BENT_VALIDATION, BENT_HIDDEN = 40, 8, 5
RIDGE = 1e-2
INNER = InnerConfig(learning_rate=0.02, batch_size=16)
OUTER = OuterConfig(max_steps=150, min_steps=150)


class Toy:
    """Three Gaussian classes; the labels of ``n_bad`` synthetic rows are shifted by one."""

    def __init__(self, n_bad: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(CLASSES, INPUTS, generator=generator)
        n = N_REAL + N_SYNTHETIC + N_VALIDATION
        labels = torch.randint(CLASSES, (n,), generator=generator)
        self.x = means[labels] + torch.randn(n, INPUTS, generator=generator)
        self.x = self.x.to(dtype)
        self.synthetic = list(range(N_REAL, N_REAL + N_SYNTHETIC))
        self.is_bad = torch.zeros(N_SYNTHETIC)
        self.is_bad[:n_bad] = 1
        labels[self.synthetic[:n_bad]] = (labels[self.synthetic[:n_bad]] + 1) % CLASSES
        self.y = labels
        self.linears = {"": self._linear()}
        inputs = self.x[self.synthetic]
        known = nn.functional.one_hot(labels[self.synthetic])
        self.features = torch.cat([inputs, known], dim=1).float()

    @property
    def linear(self) -> nn.Linear:
        return self.linears[""]

    def _linear(self) -> nn.Linear:
        linear = nn.utils.skip_init(nn.Linear, INPUTS, CLASSES, bias=False, dtype=self.x.dtype)
        nn.init.zeros_(linear.weight)
        return linear

    def problem(self, adapter: str = "") -> Problem:
        linear = self.linears.setdefault(adapter, self._linear())
        validation = list(range(N_REAL + N_SYNTHETIC, len(self.x)))
        return Problem(
            apart=lambda rows: self.losses(rows, linear),
            accumulate=lambda rows, coefficients: self.accumulate(rows, coefficients, linear),
            evaluate=lambda rows: self.losses(rows, linear).detach(),
            linears=[linear],
            real=list(range(N_REAL)),
            synthetic=self.synthetic,
            validation=validation,
            validation_share=torch.full((N_VALIDATION,), 1 / N_VALIDATION, dtype=self.x.dtype),
            real_weight=1.0,
            sibling=self.problem,
        )

    def losses(self, rows, linear: nn.Linear) -> Tensor:
        rows = list(rows)
        logits = linear(self.x[rows].unsqueeze(1)).squeeze(1)
        return nn.functional.cross_entropy(logits, self.y[rows], reduction="none")

    def accumulate(self, rows, coefficients: Tensor, linear: nn.Linear) -> Tensor:
        losses = self.losses(rows, linear)
        (losses * coefficients).sum().backward()
        return losses.detach()


def search_of(
    toy: Toy,
    *,
    seed: int = 0,
    outer: OuterConfig = OUTER,
    estimator: Estimator | None = None,
) -> Search:
    """The loop on a toy, after ten steps of warm-up."""
    inner = InnerLevel(toy.problem(), INNER, seed=seed)
    for rows in itertools.islice(inner.batches(toy.synthetic, size=16), 10):
        inner.step(rows, torch.ones(len(rows)))
    head = new_head(HeadShape("mlp", toy.features.shape[1], hidden=32), toy.features, seed=seed)
    level = OuterLevel(head, toy.features, torch.ones(N_SYNTHETIC), outer)
    return Search([inner], level, estimator or Ghost(), outer)


def material_of(
    toy: Toy,
    *,
    n_tasks: int = 4,
    dev: Sequence[int] = (),
    within: list[float] | None = None,
    prior: Prior | None = None,
) -> Material:
    """The roles of a toy's rows; its validation rows are of so many tasks in turn."""
    first = N_REAL + N_SYNTHETIC
    validation = list(range(first, first + N_VALIDATION))
    return Material(
        encoded=[],
        n_turns=[],
        tasks=["train"] * first + [f"task {row % n_tasks}" for row in validation],
        sources=[],
        real=list(range(N_REAL)),
        synthetic=toy.synthetic,
        validation=validation,
        dev=list(dev),
        real_weight=1.0,
        within=within or [1.0] * len(toy.x),
        objective="",
        prior=prior,
    )


class Bent:
    """Two linears with a tanh between them: small, and convex nowhere in particular.

    Args:
        dtype: Of everything.
        dropout: Share of the hidden units that a pass in train mode drops.
        seed: Of rows and of where the parameters start.
    """

    def __init__(
        self, *, dtype: torch.dtype = torch.float64, dropout: float = 0.0, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        n = BENT_TRAINING + BENT_VALIDATION
        self.x = torch.randn(n, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randint(CLASSES, (n,), generator=generator)
        self.dtype = dtype
        starts = [
            torch.randn(BENT_HIDDEN, INPUTS, generator=generator, dtype=torch.float64),
            torch.randn(CLASSES, BENT_HIDDEN, generator=generator, dtype=torch.float64),
        ]
        self.starts = [each.to(dtype) for each in starts]
        self.dropout = nn.Dropout(dropout)
        self.linears: dict[str, list[nn.Linear]] = {}

    def network(self, adapter: str = "") -> list[nn.Linear]:
        if adapter not in self.linears:
            made = [
                nn.utils.skip_init(nn.Linear, *start.shape[::-1], bias=False, dtype=self.dtype)
                for start in self.starts
            ]
            with torch.no_grad():
                for linear, start in zip(made, self.starts, strict=True):
                    linear.weight.copy_(start)
            self.linears[adapter] = made
        return self.linears[adapter]

    def losses(self, rows, adapter: str = "") -> Tensor:
        first, second = self.network(adapter)
        hidden = self.dropout(first(self.x[list(rows)].unsqueeze(1)).tanh())
        logits = second(hidden).squeeze(1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return nn.functional.cross_entropy(logits, self.y[list(rows)], reduction="none")

    def problem(self, adapter: str = "") -> Problem:
        def accumulate(rows, coefficients: Tensor) -> Tensor:
            losses = self.losses(rows, adapter)
            (losses * coefficients).sum().backward()
            return losses.detach()

        share = torch.arange(1, BENT_VALIDATION + 1, dtype=torch.float64)
        return Problem(
            apart=lambda rows: self.losses(rows, adapter),
            accumulate=accumulate,
            evaluate=torch.no_grad()(lambda rows: self.losses(rows, adapter)),
            linears=self.network(adapter),
            real=list(range(4)),
            synthetic=list(range(4, BENT_TRAINING)),
            validation=list(range(BENT_TRAINING, BENT_TRAINING + BENT_VALIDATION)),
            validation_share=(share / share.sum()).to(self.dtype),
            real_weight=1.0,
            sibling=self.problem,
        )


class Ridge:
    """Weighted ridge regression, whose minimum and whose hypergradient have closed forms.

    Loss of a row: half the squared error. The regulariser is a real row per coordinate with target
    zero, so that G = (1/b) sum_i w_i l_i over all rows, b of them, is the whole inner loss.
    """

    def __init__(self, *, n: int = 60, d: int = 8, n_bad: int = 24, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.n, self.d, held_out = n, d, 40
        x = normal(n + held_out, d) * torch.logspace(0, -1, d, dtype=torch.float64)
        y = x @ normal(d) + 0.1 * normal(n + held_out)
        y[:n_bad] *= -1
        own = (RIDGE * (n + d)) ** 0.5 * torch.eye(d, dtype=torch.float64)
        self.x = torch.cat([x[:n], own, x[n:]])
        self.y = torch.cat([y[:n], torch.zeros(d, dtype=torch.float64), y[n:]])
        self.rows = list(range(n + d))
        self.held_out = list(range(n + d, n + d + held_out))
        weights = 0.75 + 0.5 * torch.rand(n, generator=generator, dtype=torch.float64)
        self.weights = torch.cat([weights, torch.ones(d, dtype=torch.float64)])
        self.linears: dict[str, nn.Linear] = {}

    def problem(self, adapter: str = "") -> Problem:
        linear = self.linears.setdefault(
            adapter, nn.Linear(self.d, 1, bias=False, dtype=torch.float64)
        )

        def losses(rows) -> Tensor:
            rows = list(rows)
            found: Tensor = linear(self.x[rows].unsqueeze(1)).flatten()
            return (found - self.y[rows]).square() / 2

        def accumulate(rows, coefficients: Tensor) -> Tensor:
            found = losses(rows)
            (found * coefficients).sum().backward()
            return found.detach()

        share = torch.full((len(self.held_out),), 1 / len(self.held_out), dtype=torch.float64)
        return Problem(
            apart=losses,
            accumulate=accumulate,
            evaluate=torch.no_grad()(losses),
            linears=[linear],
            real=self.rows[self.n :],
            synthetic=self.rows[: self.n],
            validation=self.held_out,
            validation_share=share,
            real_weight=1.0,
            sibling=self.problem,
        )

    def hessian(self, weights: Tensor) -> Tensor:
        x = self.x[self.rows]
        return x.T @ (weights[:, None] * x) / len(self.rows)

    def minimum(self, weights: Tensor, *, pull: float = 0.0) -> Tensor:
        """Argmin of G + pull L_val: (d,)."""
        x, y, held_x, held_y = self.x[self.rows], self.y[self.rows], *self._validation()
        share = pull / len(self.held_out)
        left = self.hessian(weights) + share * held_x.T @ held_x
        right = x.T @ (weights * y) / len(self.rows) + share * held_x.T @ held_y
        return torch.linalg.solve(left, right)

    def outer_loss(self, theta: Tensor) -> float:
        x, y = self._validation()
        return float((x @ theta - y).square().mean() / 2)

    def exact_d(self, weights: Tensor) -> Tensor:
        """-(1/b) <grad l_i, H^-1 v> at the minimum: (b,)."""
        theta = self.minimum(weights)
        x, y = self._validation()
        v = x.T @ (x @ theta - y) / len(x)
        errors = self.x[self.rows] @ theta - self.y[self.rows]
        solution = torch.linalg.solve(self.hessian(weights), v)
        return -errors * (self.x[self.rows] @ solution) / len(self.rows)

    def _validation(self) -> tuple[Tensor, Tensor]:
        return self.x[self.held_out], self.y[self.held_out]

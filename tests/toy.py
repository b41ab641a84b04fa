"""A small problem of known truth: three Gaussian classes, some synthetic rows with wrong labels."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from trajweight.bilevel import Search
from trajweight.config import InnerConfig, OuterConfig
from trajweight.estimators import Estimator, Ghost
from trajweight.inner import InnerLevel
from trajweight.outer import OuterLevel
from trajweight.problem import Problem
from trajweight.reweighting import HeadShape, new_head

N_REAL, N_SYNTHETIC, N_VALIDATION, INPUTS, CLASSES = 12, 160, 80, 6, 3
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

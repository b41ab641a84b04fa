"""How well every estimator agrees with the exact gradient of one step, on a real model.

    .venv/bin/python benchmarks/agreement.py

The exact gradient is that of one clipped AdamW step with the outer gradient after it: per-sample
gradients by autograd and the step differentiated by autograd, in float64, on a copy of the same
weights. Estimators run in fp32 and with a bf16 base under fp32 adapters, on the same batches of
the sample data; the figures are means over the batches, d as it is and d centred, as the head
sees it. On a processor without bf16 units its products are computed in fp32 and rounded, as
those units do it (`bench.Bf16Products`).
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from bench import Bench, add_model_options, bf16_as_hardware_does, config_of, table, write
from scipy.stats import spearmanr
from torch import Tensor

from trajweight.estimators import (
    Estimator,
    FiniteDifference,
    Ghost,
    Implicit,
    Penalty,
    Running,
    Unrolled,
)
from trajweight.ground import problem_of
from trajweight.inner import InnerLevel

if TYPE_CHECKING:
    from trajweight.problem import Rows

VALIDATION = 16
#: Steps that the penalty's second adapter is pulled before its d is read; at first d is zero.
PULLS = 8
ESTIMATORS: dict[str, Estimator] = {
    "ghost": Ghost(validation_size=VALIDATION),
    "ghost-exact, theta": Ghost(fused=False, validation_size=VALIDATION),
    "ghost-exact, theta_next": Ghost(fused=False, at="theta_next", validation_size=VALIDATION),
    "finite-difference, theta_next": FiniteDifference(at="theta_next", validation_size=VALIDATION),
    "penalty": Penalty(validation_size=VALIDATION),
    "unrolled, 1 step": Unrolled(steps=1, validation_size=VALIDATION),
    "implicit": Implicit(every=1, validation_size=VALIDATION),
}


def exact_d(bench: Bench, state: dict[str, Any], rows: Rows, weights: Tensor) -> Tensor:
    """dL_val / dw by autograd alone, at the state: (b,)."""
    inner, problem = bench.inner, bench.problem
    inner.restore(state)
    parameters = inner.parameters
    gradients = []
    for row in rows:  # one at a time: what the ghost product never has to hold
        loss = problem.apart([row]).squeeze()
        found = torch.autograd.grad(loss, parameters)
        gradients.append(torch.cat([each.flatten() for each in found]).cpu())
    stacked = torch.stack(gradients)
    w = weights.double().requires_grad_()
    moved = _functional_step(bench, stacked, w)
    _put(parameters, moved.detach())
    val_rows, share = problem.validation[:VALIDATION], torch.full((VALIDATION,), 1 / VALIDATION)
    outer = (problem.apart(val_rows).cpu() * share.double()).sum()
    v = torch.cat([each.flatten() for each in torch.autograd.grad(outer, parameters)]).cpu()
    (d,) = torch.autograd.grad(moved @ v, w)
    return d


def _functional_step(bench: Bench, gradients: Tensor, w: Tensor) -> Tensor:
    """Parameters after clipping and AdamW, differentiable in the weights: (p,)."""
    optimizer, inner = bench.inner.optimizer, bench.inner
    settings = optimizer.param_groups[0]
    states = [optimizer.state[parameter] for parameter in inner.parameters]
    theta = torch.cat([each.detach().flatten() for each in inner.parameters]).cpu()
    mean, square = (
        torch.cat([state[name].flatten() for state in states]).cpu().double()
        for name in ("exp_avg", "exp_avg_sq")
    )
    step = float(states[0]["step"]) + 1
    beta1, beta2 = settings["betas"]
    g = (w[:, None] * gradients).mean(0)
    g = g * (inner.config.max_grad_norm / (g.norm() + 1e-6)).clamp(max=1.0)
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g**2
    update = mean / (1 - beta1**step) / ((square / (1 - beta2**step)).sqrt() + settings["eps"])
    return theta * (1 - settings["lr"] * settings["weight_decay"]) - settings["lr"] * update


@torch.no_grad()
def _put(parameters: list[Tensor], flat: Tensor) -> None:
    parts = flat.split([each.numel() for each in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view_as(parameter))


def in_double(bench: Bench) -> Bench:
    """The same model, adapter and cached activations in float64."""
    student = copy.deepcopy(bench.student)
    student.backbone.model.double()
    if student.frozen.cached is not None:
        cached = [each.double() for each in student.frozen.cached]
        student.frozen = replace(student.frozen, cached=cached)
    problem = problem_of(student, bench.material)
    return Bench(bench.material, student, problem, InnerLevel(problem, bench.inner.config, seed=0))


def measure(options: argparse.Namespace, dtype: str) -> list[dict[str, Any]]:
    """Every estimator against the exact gradient, in one precision of the base."""
    options.dtype = dtype
    bench = Bench.start(config_of(options), warm_steps=options.warm_steps, rows=64)
    # One fixed validation sample, so that all differentiate the same outer loss.
    few = replace(
        bench.problem,
        validation=bench.problem.validation[:VALIDATION],
        validation_share=torch.full((VALIDATION,), 1 / VALIDATION),
    )
    bench = replace(bench, problem=few)
    bench.inner.problem = few
    twin = in_double(bench)
    start = bench.inner.state()
    size = bench.inner.config.batch_size
    batches = [bench.inner.next_batch(few.training, size=size) for _ in range(options.batches)]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in ESTIMATORS}
    for number, rows in enumerate(batches):
        weights = 0.5 + torch.rand(size, generator=torch.Generator().manual_seed(number))
        exact = exact_d(twin, start, rows, weights)
        for name, estimator in ESTIMATORS.items():
            bench.inner.restore(start)
            running, truth = estimator.begin(bench.inner), exact
            if isinstance(estimator, Penalty):
                truth = _pulled(bench, twin, running, rows, weights)
            estimate = running.step(rows, weights)
            if estimate is None:
                raise SystemExit(name + " gave no estimate")
            found[name].append((estimate.d.double(), truth))
        print(f"{dtype}: batch {number + 1} of {len(batches)}", file=sys.stderr)
    return [
        {"estimator": name, "dtype": dtype, **_agreement(pairs)} for name, pairs in found.items()
    ]


def _pulled(bench: Bench, twin: Bench, running: Running, rows: Rows, weights: Tensor) -> Tensor:
    """Let both adapters of the penalty go on together, and give the exact d where they come to."""
    size = bench.inner.config.batch_size
    for _ in range(PULLS):
        running.step(bench.inner.next_batch(bench.problem.training, size=size), torch.ones(size))
    there = bench.inner.state()
    exact = exact_d(twin, there, rows, weights)
    bench.inner.restore(there)
    return exact


def _agreement(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Means over the batches."""
    rows = []
    for found, exact in pairs:
        a, b = found - found.mean(), exact - exact.mean()
        rows.append(
            (
                float(found @ exact / (found.norm() * exact.norm())),
                float(a @ b / (a.norm() * b.norm())),
                float(spearmanr(found.numpy(), exact.numpy()).statistic),
                float((found - exact).norm() / exact.norm()),
            )
        )
    names = ("cosine", "cosine_centred", "rank_correlation", "relative_error")
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return {name: float(f"{mean:.4g}") for name, mean in zip(names, means, strict=True)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--warm-steps", type=int, default=30)
    options = parser.parse_args()
    cells = measure(options, "float32")
    with bf16_as_hardware_does():
        cells += measure(options, "bfloat16")
    write("agreement", {"model": options.model, "batches": options.batches, "cells": cells})
    print(table(list(cells[0]), [list(cell.values()) for cell in cells]))


if __name__ == "__main__":
    main()

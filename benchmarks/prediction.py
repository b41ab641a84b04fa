"""Does d predict? Weights are perturbed, the step is really made, the outer loss really measured.

    .venv/bin/python benchmarks/prediction.py

From one state of the adapter, the same batch is stepped with weights 1 + delta for 50 random
deltas. Predicted is sum_i d_i delta_i, d being estimated once at weights one; true is the change of
the outer loss after the step. Correlations over the perturbations, for several batches.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import torch
from bench import Bench, add_model_options, config_of, table, write
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from trajweight.choosing import estimator_of
from trajweight.config import EstimatorConfig

if TYPE_CHECKING:
    from trajweight.problem import Rows

#: Standard deviation of a weight's perturbation; weights stay above zero.
SPREAD = 0.3


def outer_after(bench: Bench, start: dict[str, object], rows: Rows, weights: Tensor) -> float:
    """The outer loss after one real step with these weights."""
    bench.inner.restore(start)
    bench.inner.step(rows, weights)
    return bench.problem.outer_loss()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--perturbations", type=int, default=50)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--warm-steps", type=int, default=30)
    options = parser.parse_args()
    bench = Bench.start(config_of(options), warm_steps=options.warm_steps, rows=64)
    start, size = bench.inner.state(), bench.inner.config.batch_size
    names = ("ghost", "ghost-exact")
    predicted: dict[str, list[list[float]]] = {name: [] for name in names}
    true: list[list[float]] = []
    for number in range(options.batches):
        bench.inner.restore(start)
        rows = bench.inner.next_batch(bench.problem.training, size=size)
        after = bench.inner.state()
        generator = torch.Generator().manual_seed(number)
        deltas = SPREAD * torch.randn(options.perturbations, size, generator=generator)
        deltas = deltas.clamp(-0.9, 0.9)
        for name in names:
            at = "theta_next" if name == "ghost-exact" else "theta"
            bench.inner.restore(after)
            running = estimator_of(EstimatorConfig(name=name, every=1, at=at)).begin(bench.inner)
            estimate = running.step(rows, torch.ones(size))
            if estimate is None:
                raise SystemExit(name + " gave no estimate")
            predicted[name].append((deltas @ estimate.d.float()).tolist())
        base = outer_after(bench, after, rows, torch.ones(size))
        true.append([outer_after(bench, after, rows, 1 + delta) - base for delta in deltas])
        start = after  # the next batch of the stream
        print(f"batch {number + 1} of {options.batches}", file=sys.stderr)
    cells = [
        {
            "estimator": name,
            "batch": number,
            "pearson": round(float(pearsonr(guess, truth).statistic), 4),
            "spearman": round(float(spearmanr(guess, truth).statistic), 4),
        }
        for name in names
        for number, (guess, truth) in enumerate(zip(predicted[name], true, strict=True))
    ]
    write(
        "prediction",
        {
            "model": options.model,
            "perturbations": options.perturbations,
            "spread": SPREAD,
            "cells": cells,
            "pairs": {"predicted": predicted, "true": true},
        },
    )
    print(table(list(cells[0]), [list(cell.values()) for cell in cells]))


if __name__ == "__main__":
    main()

"""A program for two processes: a few steps of every estimator, in float64, on shared rows.

    torchrun --nproc_per_node 2 -m tests.together FOLDER

Every process writes what it found, so that a test can hold them against one process alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tests.tokens import bench, token_rows
from trajweight.config import InnerConfig
from trajweight.estimators import (
    FiniteDifference,
    Ghost,
    Implicit,
    Penalty,
    Unrolled,
)
from trajweight.inner import InnerLevel
from trajweight.processes import joined

if TYPE_CHECKING:
    from trajweight.estimators import Estimator
    from trajweight.processes import Processes

#: Batches of the steps; one process of two has no row of the last.
BATCHES = ([2, 5, 3, 4], [6, 2, 4], [5, 6, 3, 2], [4])

ESTIMATORS: dict[str, Estimator] = {
    "ghost": Ghost(),
    "ghost-exact": Ghost(fused=False, at="theta_next"),
    "finite-difference": FiniteDifference(relative_step=2.0**-10),
    "penalty": Penalty(),
    "unrolled": Unrolled(steps=2),
    "implicit": Implicit(every=1),
}


def work(processes: Processes) -> dict[str, list[float]]:
    """What every estimator finds, and where it leaves the adapter."""
    found: dict[str, list[float]] = {}
    for depth in (0, 1):
        for name, estimator in ESTIMATORS.items():
            made = bench(token_rows(10), depth=depth, processes=processes)
            problem = made.problem()
            inner = InnerLevel(problem, InnerConfig(), seed=0)
            running = estimator.begin(inner)
            told: list[float] = [problem.outer_loss()]
            for rows in BATCHES:
                weights = torch.linspace(0.5, 1.5, len(rows), dtype=torch.float64)
                estimate = running.step(rows, weights)
                if estimate is not None:
                    told += [*estimate.d.tolist(), estimate.outer_loss]
            found[f"{name} at depth {depth}"] = told
            found[f"adapter after {name} at depth {depth}"] = torch.cat(
                [parameter.detach().flatten() for parameter in inner.parameters]
            ).tolist()
        made = bench(token_rows(10), depth=depth, processes=processes)
        replies = made.losses.replies(range(10)).stacked()
        found[f"features at depth {depth}"] = [
            *made.frozen.embeddings.flatten().tolist(),
            *made.frozen.losses.stacked().flatten().tolist(),
            *replies.flatten().tolist(),
        ]
    return found


if __name__ == "__main__":
    together = joined("cpu")
    text = json.dumps(work(together))
    (Path(sys.argv[1]) / f"{together.number}.json").write_text(text)

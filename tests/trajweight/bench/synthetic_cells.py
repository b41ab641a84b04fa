"""Finished cells of known effect, as lines of a file."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from trajweight.files import write_jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KINDS = ("wrong-action-50", "shuffled", "looping")


def cells(
    effects: Mapping[str, tuple[float, float, float]],
    *,
    environments: Sequence[str] = ("textworld-coin", "babyai-goto"),
    noises: Sequence[float] = (0.0, 0.4),
    validations: Sequence[int] = (50,),
    seeds: Sequence[int] = range(8),
    model: str = "small",
    n_tasks: int = 20,
    noise_of_runs: float = 0.01,
) -> list[dict[str, Any]]:
    """A cell for every method in every setting with every seed.

    Args:
        effects: By method: test NLL and greedy return at full noise less those without, and the
            mean AUROC; NLL is 0.3 and the return 0.5 without noise.
        environments: Of the grid.
        noises: Of the grid.
        validations: Of the grid.
        seeds: Of the grid.
        model: Name of the model.
        n_tasks: Test tasks.
        noise_of_runs: Standard deviation from run to run.
    """
    found = []
    grid = itertools.product(environments, noises, validations, seeds)
    for environment, noise, n_validation, seed in grid:
        shared = np.random.default_rng([seed, len(environment)]).normal()  # all methods alike
        for at, (method, (nll, gain, area)) in enumerate(effects.items()):
            rng = np.random.default_rng(
                [seed, at, n_validation, round(100 * noise), *environment.encode()]
            )
            own = rng.normal(size=3) * noise_of_runs
            returns = 0.5 + gain * noise + 0.05 * shared + own[1] + 0.1 * rng.normal(size=n_tasks)
            by_task = {f"task-{n}": [float(r), float(r > 0.5)] for n, r in enumerate(returns)}
            areas = np.clip(area + 0.03 * rng.normal(size=len(KINDS)), 0, 1)
            found.append(
                {
                    "version": 1,
                    "model": model,
                    "environment": environment,
                    "noise": noise,
                    "n_validation": n_validation,
                    "seed": seed,
                    "method": method,
                    "ablation": {},
                    "weights": {
                        "auroc": float(areas.mean()) if noise else None,
                        "average_precision": float(areas.mean()) if noise else None,
                        "auroc_by_kind": dict(zip(KINDS, areas.tolist(), strict=True))
                        if noise
                        else {},
                        "good_auroc_by_kind": {"reworded": area} if noise else {},
                        "mean_by_kind": {"good": 1.2} | dict.fromkeys(KINDS, 0.8 if noise else 1.0),
                        "ess_fraction": 0.6,
                        "length_correlation": 0.1,
                        "good_mass": 0.8,
                    },
                    "nll": {"test": 0.3 + nll * noise + 0.02 * shared + own[0]},
                    "play": {
                        "greedy": {
                            "return": float(returns.mean()),
                            "success": float((returns > 0.5).mean()),
                            "n": n_tasks,
                            "by_task": by_task,
                        }
                    },
                    "seconds": {"scoring": 2.0 + at, "training": 4.0, "playing": 9.0},
                    "peak_bytes": 2e8 + 1e7 * at,
                    "selected": "head" if method == "learned" else None,
                }
            )
    return found


def write_cells(path: Path, *parts: Sequence[Mapping[str, Any]]) -> Path:
    """All of them as one file."""
    write_jsonl(path, itertools.chain(*parts))
    return path

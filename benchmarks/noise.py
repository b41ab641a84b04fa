"""Synthetic sets of known worth: none of it bad, most of it bad, and the truth turned around.

    .venv/bin/python benchmarks/noise.py

Number guessing as in the sample data with more secrets, so that there are some 50 validation
trajectories. Three situations, each scored as a user would:

- ``clean``: every synthetic row is as good as the real ones.
- ``noisy``: 60 % of the synthetic rows are bad.
- ``inverted``: as noisy, but the real rows are drawn from a bad source; the order must turn around.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from bench import HERE, add_model_options, table, write
from sklearn.metrics import roc_auc_score

from trajweight.run import load_run

sys.path.insert(0, str(HERE.parent / "sample_data"))

import make

#: Secrets up to here, instead of the sample data's fewer.
HIGHEST = 150
#: Held-out rows: two fifths of their tasks become dev and test, and some 50 rows stay validation.
VALIDATION, OTHER_REAL = 88, 40
SYNTHETIC = 120
NAME = "noise"
SITUATIONS = ("clean", "noisy", "inverted")
Rows = Iterator[dict[str, Any]]


def source(name: str, rows: int, **changes: Any) -> make.Source:
    """One of the sample data's sources, of another size."""
    found = next(each for each in make.SOURCES if each.name == name)
    return replace(found, rows=rows, **changes)


def synthetic(noise: float) -> Rows:
    """Good and bad sources on odd secrets, in the sample data's kinds."""
    bad = round(noise * SYNTHETIC)
    good = SYNTHETIC - bad
    plan = {"expert-sim": good // 2, "terse-expert": good - good // 2}
    if bad:
        plan |= {"wrong-way": bad // 2, "ignores-feedback": bad - bad // 2}
    for name, rows in plan.items():
        made = source(name, rows)
        yield from make.guessing_rows(made, make.SYNTHETIC_SEEDS, parity=1, origin="synthetic")


def real(kind: str, rows: int, *, first: int) -> Rows:
    """Real rows on even secrets: the expert's, or those of a bad player called real."""
    seeds = range(first, first + 4_000)
    if kind == "inverted":
        made = source("wrong-way", rows, quality=0.0)
        found = make.guessing_rows(made, seeds, parity=0, origin="real")
        yield from ({**row, "source": "expert", "id": f"real-{row['id']}"} for row in found)
    else:
        made = make.Source("expert", 1.0, rows, make.halve, make.REAL_WORDING)
        yield from make.guessing_rows(made, seeds, parity=0, origin="real")


def measure(kind: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One situation, scored by the command line."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        rows = list(real(kind, VALIDATION + OTHER_REAL, first=0))
        # Whole tasks are held out: the rows of the first secrets, until there are enough.
        tasks = list(dict.fromkeys(row["task_id"] for row in rows))
        held: list[dict[str, Any]] = []
        for task in tasks:
            if len(held) < VALIDATION:
                held += [row for row in rows if row["task_id"] == task]
        held_tasks = {row["task_id"] for row in held}
        others = [row for row in rows if row["task_id"] not in held_tasks]
        make.write(here / "validation.jsonl", iter(held))
        make.write(here / "real.jsonl", iter(others))
        make.write(here / "synthetic.jsonl", synthetic(0.0 if kind == "clean" else 0.6))
        out = here / "run"
        command = [
            *(sys.executable, "-m", "trajweight.cli", "score"),
            *(str(here / "real.jsonl"), str(here / "synthetic.jsonl")),
            *("--val", str(here / "validation.jsonl"), "--out", str(out), "--seed", str(seed)),
            *("--model", options.model, "--json", "--quiet"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        return {"situation": kind, "seed": seed, **judged(out)}


def judged(out: Path) -> dict[str, Any]:
    """What the run says, beside the quality that it never read."""
    report = json.loads((out / "report.json").read_text())
    rows = load_run(out).trajectories("extra_json").select("traj_id", "extra_json")
    weights = pl.read_parquet(out / "weights.parquet").join(rows, on="traj_id")
    learned = weights.filter((pl.col("split") == "train") & (pl.col("origin") == "synthetic"))
    quality = [json.loads(text)["quality"] for text in learned["extra_json"]]
    # The score orders the rows whether or not the contest was for the learned weights.
    auroc = float(roc_auc_score(quality, learned["score"])) if len(set(quality)) > 1 else None
    learning = report["learning"]
    return {
        "validation_rows": weights.filter(pl.col("split") == "validation").height,
        "synthetic_rows": learned.height,
        "auroc": auroc and round(auroc, 4),
        "ess_fraction": round(report["weights"]["overall"]["ess_fraction"], 4),
        **{key: learning[key] for key in ("selected", "temperature", "dev_gain", "dev_gain_se")},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=SITUATIONS)
    options = parser.parse_args()
    make.HIGHEST, make.FIRST_GUESS = HIGHEST, (1 + HIGHEST) // 2
    make.SYSTEM = make.SYSTEM.replace("1 to 50", f"1 to {HIGHEST}")
    cells = {(cell["situation"], cell["seed"]): cell for cell in _known(options.model)}
    for kind in options.situations:
        for seed in options.seeds:
            cells[kind, seed] = measure(kind, seed, options)
            print(cells[kind, seed], file=sys.stderr)
            found = [cells[key] for key in sorted(cells)]
            write(NAME, {"model": options.model, "cells": found})
    found = list(cells.values())
    print(table(list(found[0]), [list(cell.values()) for cell in found]))


def _known(model: str) -> list[dict[str, Any]]:
    """The cells measured before, of the same model; those measured again take their place."""
    path = HERE / f"{NAME}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    cells: list[dict[str, Any]] = known["cells"] if known.get("model") == model else []
    return cells


if __name__ == "__main__":
    main()

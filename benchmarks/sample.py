"""How well, and in what time, the sample data is weighed: three seeds, and one of them twice.

    python benchmarks/sample.py            # a few minutes alone on two cores
    python benchmarks/sample.py --table    # the table of the results that are committed

Runs ``trajweight score`` as a user would, one process a seed, and compares the weights with the
field ``quality``, which training never reads. Writes ``sample.json`` beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).parent
DATA = HERE.parent / "sample_data"
FILES = [str(DATA / "real.jsonl"), str(DATA / "synthetic.jsonl")]
RESULTS = HERE / "sample.json"


def measure(seed: int, out: Path, options: list[str]) -> dict[str, Any]:
    """Score the sample data once, in a process of its own."""
    command = [sys.executable, "-m", "trajweight.cli", "score", *FILES, "--out", str(out)]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--seed", str(seed), "--json", *options], check=True, capture_output=True
    )
    took = time.perf_counter() - began
    report = json.loads((out / "report.json").read_text())
    weights = (out / "weights.parquet").read_bytes()
    return {
        "seed": seed,
        "wall_seconds": round(took, 1),
        "seconds": report["learning"]["seconds"],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **quality_of(out),
        **{key: report["learning"][key] for key in LEARNING},
    }


LEARNING = (
    *("selected", "outer_steps", "base_outer_loss", "uniform_outer_loss", "weighted_outer_loss"),
    *("uniform_dev_loss", "weighted_dev_loss"),
)


def quality_of(out: Path) -> dict[str, Any]:
    """The weights of the synthetic training rows beside their true quality."""
    rows = pl.read_parquet(out / "trajectories.parquet").select("traj_id", "extra_json")
    weights = pl.read_parquet(out / "weights.parquet").filter(
        (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    )
    table = weights.join(rows, on="traj_id", maintain_order="left")
    table = table.with_columns(
        quality=pl.Series([json.loads(text)["quality"] for text in table["extra_json"]])
    )
    w, quality = table["weight"].to_numpy(), table["quality"].to_numpy()
    means = table.group_by("source", maintain_order=True).agg(
        pl.col("quality").first(), pl.col("weight").mean(), pl.len().alias("rows")
    )
    return {
        "auroc": round(float(roc_auc_score(quality, w)), 4),
        "auroc_of_shortness": round(
            float(roc_auc_score(quality, -table["n_tokens"].to_numpy())), 4
        ),
        "ess_fraction": round(float(w.sum() ** 2 / (w**2).sum() / len(w)), 4),
        "sources": means.with_columns(pl.col("weight").round(3)).to_dicts(),
    }


def table_of(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    runs = results["runs"]
    names = [source["source"] for source in runs[0]["sources"]]
    head = ["seed", "AUROC", "ESS/n", "dev loss uniform", "weighted", "seconds", *names]
    lines = [head, ["---"] * len(head)]
    for run in runs:
        means = {source["source"]: source["weight"] for source in run["sources"]}
        numbers = [run["seed"], run["auroc"], run["ess_fraction"]]
        numbers += [round(run["uniform_dev_loss"], 3), round(run["weighted_dev_loss"], 3)]
        lines.append(
            [str(each) for each in [*numbers, run["wall_seconds"], *(means[n] for n in names)]]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure, write the results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print the committed results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 0])
    chosen, options = parser.parse_known_args()
    if not chosen.table:
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                measure(seed, Path(folder) / str(place), options)
                for place, seed in enumerate(chosen.seeds)
            ]
        machine = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        RESULTS.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n")
    print(table_of(json.loads(RESULTS.read_text())))


def processor() -> str:
    """Its name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()

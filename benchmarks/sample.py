"""How well, and in what time, the sample data is weighed: three seeds, and one of them twice.

    .venv/bin/python benchmarks/sample.py           # some eight minutes alone on two cores
    .venv/bin/python benchmarks/sample.py --tell    # only tell the committed results again

Runs ``trajweight score`` as a user would, one process a seed, and compares the weights with the
field ``quality``, which training never reads. Writes ``sample.json`` beside this file, and what it
says into the README.
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

from trajweight.run import load_run
from trajweight.weights import effective_sample_size

HERE = Path(__file__).parent
DATA = HERE.parent / "sample_data"
FILES = [str(DATA / "real.jsonl"), str(DATA / "synthetic.jsonl")]
RESULTS = HERE / "sample.json"
README = HERE.parent / "README.md"
START, END = "<!-- measured:start -->", "<!-- measured:end -->"


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
        "dtype": json.loads((out / "manifest.json").read_text())["dtype"],
        **quality_of(out),
        **{key: report["learning"][key] for key in LEARNING},
    }


LEARNING = (
    *("model", "selected", "outer_steps", "dev_gain", "dev_gain_se", "contest_steps"),
    *("base_outer_loss", "uniform_outer_loss", "weighted_outer_loss"),
    *("uniform_dev_loss", "weighted_dev_loss"),
)


def quality_of(out: Path) -> dict[str, Any]:
    """The weights of the synthetic training rows beside their true quality."""
    rows = load_run(out).trajectories("extra_json").select("traj_id", "extra_json")
    weights = pl.read_parquet(out / "weights.parquet").filter(
        (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    )
    losses = pl.read_parquet(out / "features.parquet").select("traj_id", "base_nll")
    table = weights.join(rows, on="traj_id", maintain_order="left")
    table = table.join(losses, on="traj_id", maintain_order="left")
    table = table.with_columns(
        quality=pl.Series([json.loads(text)["quality"] for text in table["extra_json"]])
    )
    w, quality = table["weight"].to_numpy(), table["quality"].to_numpy()
    means = table.group_by("source", maintain_order=True).agg(
        pl.col("quality").first(), pl.col("weight").mean(), pl.len().alias("rows")
    )
    return {
        "auroc": round(float(roc_auc_score(quality, w)), 4),
        "auroc_of_shortness": round(float(roc_auc_score(quality, -table["n_tokens"])), 4),
        "auroc_of_low_loss": round(float(roc_auc_score(quality, -table["base_nll"])), 4),
        "ess_fraction": round(float(effective_sample_size(w)) / len(w), 4),
        "sources": means.with_columns(pl.col("weight").round(3)).to_dicts(),
    }


def told(results: dict[str, Any]) -> str:
    """The results as a paragraph and a table of Markdown, for the README."""
    runs, machine = results["runs"], results["machine"]
    stages = {name: seconds for name, seconds in runs[0]["seconds"].items() if seconds >= 1}
    where = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items())
    twice = [run["weights_sha256"] for run in runs if run["seed"] == runs[-1]["seed"]]
    again = "the same bytes" if len(twice) > 1 and len(set(twice)) == 1 else "OTHER BYTES"
    first, last = runs[0], runs[-1]
    return "\n".join(
        [
            f"`python benchmarks/sample.py` on {machine['cores']} cores ({machine['processor']}), "
            f"model {first['model']}, in {machine['dtype']}; seed {last['seed']} was run twice and "
            f"gave {again} of `weights.parquet`. The first run took "
            f"{first['wall_seconds']:.0f} s in all: {where}.",
            "",
            table_of(runs),
            "",
            "AUROC is that of the weights against `quality` over the synthetic training rows; "
            f"that of shortness alone is {first['auroc_of_shortness']:.2f} and that of a low base "
            f"loss {first['auroc_of_low_loss']:.2f}. Dev losses are those after as many steps of "
            "training as dev needed, so they compare in their own line alone. The columns by "
            "source are mean weights; the first three sources are good.",
        ]
    )


def table_of(runs: list[dict[str, Any]]) -> str:
    """One line a run."""
    names = [source["source"] for source in runs[0]["sources"]]
    head = ["seed", "AUROC", "ESS/n", "dev loss, uniform", "weighted", "steps", "seconds", *names]
    lines = [head, ["---"] * len(head)]
    for run in runs:
        means = {source["source"]: f"{source['weight']:.2f}" for source in run["sources"]}
        losses = [f"{run[key]:.3f}" for key in ("uniform_dev_loss", "weighted_dev_loss")]
        numbers = [str(run["seed"]), f"{run['auroc']:.3f}", f"{run['ess_fraction']:.2f}", *losses]
        numbers += [str(run["contest_steps"]), f"{run['wall_seconds']:.0f}"]
        lines.append([*numbers, *(means[name] for name in names)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_into_readme(results: dict[str, Any]) -> None:
    """Replace what stands between the README's marks."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{START}\n{told(results)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, write the results, tell them in the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tell", action="store_true", help="only tell the committed results again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 0])
    parser.add_argument("--keep", type=Path, help="leave the runs in this folder, by their place")
    chosen, options = parser.parse_known_args()
    if not chosen.tell:
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                measure(seed, (chosen.keep or Path(folder)) / str(place), options)
                for place, seed in enumerate(chosen.seeds)
            ]
        machine = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "dtype": runs[0]["dtype"],
        }
        RESULTS.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n")
    results = json.loads(RESULTS.read_text())
    put_into_readme(results)
    print(told(results))


def processor() -> str:
    """Its name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()

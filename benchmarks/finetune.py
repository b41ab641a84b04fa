"""A real fine-tune with TRL: by the weights, with uniform weights, and by the stock trainer.

    .venv/bin/python benchmarks/finetune.py --python VENV_OF_TRL/bin/python [--run RUN]

Scores the sample data once as a user would, or takes a finished run of it, and exports it with
``--to trl``. The export's own ``train.py`` then trains a LoRA adapter three times for every seed:

- ``weighted``: as exported;
- ``uniform``: the same rows and trainer, every weight one;
- ``stock``: TRL's own `SFTTrainer` on the same file, whose weights it drops.

The seed decides the adapter's start and the order of rows, and is the same for all three. Judged by
the loss on real episodes that the weights were never learned from: those of split ``test``, which
nothing read, and of split ``dev``, by which learned weights were chosen over uniform ones and no
more. Writes ``finetune.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from bench import SAMPLE, table, write
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from trajweight.encoded import Encoded
from trajweight.export import ExportRequest, ExportResult, export_weights
from trajweight.models import DEFAULT_MODEL, load_model
from trajweight.progress import Progress
from trajweight.run import Run, load_run
from trajweight.table import trajectory_of
from trajweight.tokenization import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "finetune"
ARMS = ("weighted", "uniform", "stock")
HELD_OUT = ("test", "dev")
#: About an epoch of the sample data; some two minutes alone on two cores.
STEPS, BATCH, ACCUMULATION, RATE = 10, 4, 4, 5e-4
MAX_TOKENS = 1_024
PACKAGES = ("trl", "transformers", "peft", "torch")


def scored(folder: Path, model: str) -> Run:
    """The sample data, scored in a process of its own."""
    command = [sys.executable, "-m", "trajweight.cli", "score", *SAMPLE, "--out", str(folder)]
    subprocess.run(
        [*command, "--model", model, "--quiet", "--json"], check=True, capture_output=True
    )
    return load_run(folder)


def exported(run: Run, folder: Path) -> tuple[dict[str, Path], ExportResult]:
    """By arm the export to train on, and what was exported."""
    ours, uniform = folder / "weighted", folder / "uniform"
    result = export_weights(run, ours, ExportRequest(to="trl", mode="adapter"))
    shutil.copytree(ours, uniform)
    data = uniform / "data" / "train.jsonl"
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    data.write_text("".join(json.dumps({**row, "weight": 1.0}) + "\n" for row in rows), "utf-8")
    return {"weighted": ours, "uniform": uniform, "stock": ours}, result


def held_out(run: Run, tokenizer: Any) -> dict[str, list[Encoded]]:
    """By split the real episodes that judge, in tokens."""
    splits = run.table("weights").select("traj_id", "split")
    rows = run.trajectories("messages_json", "tools_json").filter(pl.col("origin") == "real")
    rows = rows.join(splits, on="traj_id", maintain_order="left")
    found = {}
    for split in HELD_OUT:
        some = rows.filter(pl.col("split") == split).to_dicts()
        made = [encode(trajectory_of(row), tokenizer, max_tokens=MAX_TOKENS) for row in some]
        found[split] = [each for each in made if isinstance(each, Encoded)]
    found["both"] = [each for rows in found.values() for each in rows]
    return found


@torch.no_grad()
def losses(model: Any, episodes: Sequence[Encoded]) -> dict[str, float]:
    """Mean loss of a token, and mean over episodes of their mean loss, in nats."""
    sums, counts = [], []
    for episode in episodes:
        ids = torch.tensor(episode.input_ids)
        mask = torch.tensor(episode.assistant_mask)[1:]
        logits = model(input_ids=ids[None]).logits[0, :-1].float()
        found = functional.cross_entropy(logits[mask], ids[1:][mask], reduction="sum")
        sums.append(found.item())
        counts.append(int(mask.sum()))
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    return {"token_mean": sum(sums) / sum(counts), "sequence_mean": sum(means) / len(means)}


def trained(arm: str, export: Path, seed: int, output: Path, options: argparse.Namespace) -> float:
    """Train one adapter by the export's own script; gives the seconds it took."""
    settings = {
        "--model": options.base,
        "--output": output,
        "--max-steps": options.steps,
        "--batch": BATCH,
        "--accumulation": ACCUMULATION,
        "--lr": RATE,
        "--max-length": MAX_TOKENS,
        "--seed": seed,
    }
    command = [options.python, "train.py", *(part for pair in settings.items() for part in pair)]
    if arm == "stock":
        command.append("--unweighted")
    # the cache of tokens dies with the folder, and telemetry needs a network
    own = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(output.parent / "cache")}
    began = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=export,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{arm}, seed {seed}: train.py failed\n{done.stderr[-4_000:]}")
    return time.perf_counter() - began


def versions_of(python: Path) -> dict[str, str]:
    """Of the packages that trained."""
    program = (
        "import importlib.metadata as m, json, sys; "
        "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", program, *PACKAGES], check=True, capture_output=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def compared(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In how many seeds the weighted adapter has the lower loss, and by how much on average."""
    found: dict[str, Any] = {}
    for other in ARMS[1:]:
        for split in (*HELD_OUT, "both"):
            for kind in ("token_mean", "sequence_mean"):
                gaps = [
                    run["arms"][other][split][kind] - run["arms"]["weighted"][split][kind]
                    for run in runs
                ]
                found[f"{other}, {split}, {kind}"] = {
                    "mean_gain": round(sum(gaps) / len(gaps), 4),
                    "lower_in": sum(gap > 0 for gap in gaps),
                    "of": len(gaps),
                }
    return found


def measure(options: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """All trainings, and what they came to; told after each seed, so that none is lost."""
    run = load_run(options.run) if options.run else scored(scratch / "run", options.model)
    loaded = load_model(options.model, device="cpu", dtype="float32", progress=Progress())
    options.base = scratch / "base"
    loaded.model.save_pretrained(options.base)
    loaded.tokenizer.save_pretrained(options.base)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    exports, result = exported(run, scratch)
    episodes = held_out(run, tokenizer)

    def judged(adapter: Path | None) -> dict[str, Any]:
        model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        model.train(mode=False)
        return {split: losses(model, rows) for split, rows in episodes.items()}

    facts = {
        "model": options.model,
        "steps": options.steps,
        "rows_a_step": BATCH * ACCUMULATION,
        "learning_rate": RATE,
        "trainer": versions_of(options.python),
        "rows": result.n_examples,
        "ess_fraction": result.ess_fraction,
        "episodes": {split: len(rows) for split, rows in episodes.items()},
        "base": judged(None),
    }
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        arms = {}
        for arm in ARMS:
            output = scratch / f"{arm}-{seed}"
            seconds = trained(arm, exports[arm], seed, output, options)
            arms[arm] = {**judged(output), "seconds": round(seconds, 1)}
            print(f"seed {seed}, {arm}: {json.dumps(arms[arm])}", flush=True)
        runs.append({"seed": seed, "arms": arms})
        yield {**facts, "runs": runs, "compared": compared(runs)}


def told(results: dict[str, Any]) -> str:
    """The losses as a table of Markdown."""
    rows = [
        [
            run["seed"],
            arm,
            *(
                f"{run['arms'][arm][split][kind]:.4f}"
                for split in (*HELD_OUT, "both")
                for kind in ("token_mean", "sequence_mean")
            ),
        ]
        for run in results["runs"]
        for arm in ARMS
    ]
    columns = [
        f"{split}, by {kind}" for split in (*HELD_OUT, "both") for kind in ("token", "episode")
    ]
    return table(["seed", "trained", *columns], rows)


def main() -> None:
    """Measure, write and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True, help="of the environment with TRL")
    parser.add_argument("--run", type=Path, help="a finished run on the sample data")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--dry", action="store_true", help="tell the results and write no file")
    options = parser.parse_args()
    options.python = options.python.absolute()  # not resolved: a link is what makes an environment
    with tempfile.TemporaryDirectory() as scratch:
        for results in measure(options, Path(scratch)):
            if not options.dry:
                write(NAME, results)
            print(told(results))
            print(json.dumps(results["compared"], indent=1), flush=True)


if __name__ == "__main__":
    main()

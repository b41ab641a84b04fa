"""Whether a run that is killed at any moment and gone on with ends as if nothing had happened.

    .venv/bin/python benchmarks/interruptions.py                 # some minutes on two cores
    .venv/bin/python benchmarks/interruptions.py --model smollm2-135m-instruct

Runs ``trajweight score`` on the sample data once undisturbed. Then it starts the same run again and
again, each time in a new folder, and kills it with SIGKILL at random moments, from when it begins
to read to when it would have ended: once, or several times in a row, each time going on with
``--resume``. Each of these runs must end with the bytes of the undisturbed one. Writes
``interruptions.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import write

HERE = Path(__file__).parent
ROOT = HERE.parent
DATA = ROOT / "sample_data"
FILES = [str(DATA / "real.jsonl"), str(DATA / "synthetic.jsonl")]
#: What must be the same; manifest and report hold times.
SAME = (
    *("weights.parquet", "head.safetensors", "head.json", "trace.jsonl", "features.parquet"),
    "direction.safetensors",
    *("trajectories.parquet", "conversations/00000-00000.parquet"),
    *("excluded.jsonl", "rejected.jsonl", "config.toml"),
)
#: What a run says first once its libraries are loaded.
BEGINNING = "reading "
MOST_IN_A_ROW = 4


@dataclass(frozen=True)
class Kill:
    """Where a SIGKILL fell.

    Attributes:
        run: Number of the run, from zero.
        after_seconds: Since the process began to read.
        stage: What it was doing.
        outer_steps: Lines of the trace at that moment.
        checkpoints: Checkpoints that stood then.
        torn: Files that were being written.
    """

    run: int
    after_seconds: float
    stage: str
    outer_steps: int
    checkpoints: int
    torn: list[str]


def start(arguments: list[str], told: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own and wait until its run begins to read."""
    command = [sys.executable, "-m", "trajweight.cli", "score", *arguments]
    with told.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=stream, cwd=ROOT, env=dict(os.environ)
        )
    while process.poll() is None and BEGINNING not in told.read_text():
        time.sleep(0.005)
    return process


def finish(process: subprocess.Popen[bytes], told: Path) -> None:
    """Wait for the end of a command.

    Raises:
        RuntimeError: If it failed.
    """
    if process.wait() != 0:
        message = f"the command ended with {process.returncode}: {told.read_text()}"
        raise RuntimeError(message)


def killed(process: subprocess.Popen[bytes], out: Path, told: Path, after: float) -> Kill | None:
    """Kill a run after some seconds; None where it had ended before."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        finish(process, told)
        return None
    stages = [line for line in told.read_text().splitlines() if line.endswith(" ...")]
    trace = out / "trace.jsonl"
    return Kill(
        run=int(out.name),
        after_seconds=round(after, 3),
        stage=stages[-1].removesuffix(" ...").partition(" (")[0],
        outer_steps=len(trace.read_text().splitlines()) if trace.exists() else 0,
        checkpoints=len(list((out / "checkpoints").glob("[0-9]*.safetensors"))),
        torn=sorted(path.name.split(".")[1] for path in out.rglob(".*.part")),
    )


def differing(one: Path, two: Path) -> list[str]:
    """Names of the files that are not the same bytes in both runs."""

    def content(path: Path) -> bytes | None:
        return path.read_bytes() if path.exists() else None

    return [name for name in SAME if content(one / name) != content(two / name)]


def measure(
    arguments: list[str], folder: Path, *, kills: int, most_in_a_row: int, seed: int
) -> dict[str, object]:
    """Kill runs until there were so many kills, and compare each with an undisturbed run.

    Args:
        arguments: Of ``trajweight score``, without ``--out``.
        folder: Where the runs go.
        kills: How many.
        most_in_a_row: Kills of one run, at most.
        seed: Of the moments.
    """
    rng, whole, told = random.Random(seed), folder / "whole", folder / "told.txt"
    process, began = start([*arguments, "--out", str(whole)], told), time.perf_counter()
    finish(process, told)
    seconds = span = time.perf_counter() - began
    fell: list[Kill] = []
    differ: dict[int, list[str]] = {}
    while len(fell) < kills:
        number = len(differ)
        out = folder / str(number)
        left = min(rng.randint(1, most_in_a_row), kills - len(fell))
        process, began = start([*arguments, "--out", str(out)], told), time.perf_counter()
        while left:
            kill = killed(process, out, told, rng.uniform(0, span))
            if kill is None:  # it was faster than the last one, on a machine that others use too
                span = min(span, time.perf_counter() - began)
                break
            fell.append(kill)
            left -= 1
            print(f"killed run {number} in {kill.stage} after {kill.after_seconds:.1f} s")
            process, began = start(["--resume", str(out)], told), time.perf_counter()
        finish(process, told)
        differ[number] = differing(whole, out)
        print(f"run {number} ended with", ", ".join(differ[number]) or "the same bytes", flush=True)
    return {
        "undisturbed_seconds": round(seconds, 1),
        "kills": len(fell),
        "runs": len(differ),
        "same_bytes": not any(differ.values()),
        "differing": {number: names for number, names in differ.items() if names},
        "compared": list(SAME),
        "fell": [asdict(kill) for kill in fell],
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    arguments = [*FILES, "--model", chosen.model, "--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        results = measure(
            arguments,
            Path(folder),
            kills=chosen.kills,
            most_in_a_row=MOST_IN_A_ROW,
            seed=chosen.seed,
        )
    write("interruptions", {"model": chosen.model, "seed": chosen.seed, **results})
    print(json.dumps({name: results[name] for name in ("kills", "runs", "same_bytes")}))


if __name__ == "__main__":
    main()

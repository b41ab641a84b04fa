"""Seconds and peak memory of the report as the rows grow: gathering its facts, and showing them.

    .venv/bin/python benchmarks/report.py                     # alone on the machine, 6 GB free
    .venv/bin/python benchmarks/report.py --rows 1000 10000   # a quick look

For each size a run is made: trajectories read from a file as `ingest` reads them, split by hand,
with weights, scores, base losses and embeddings that go with a hidden quality, as those of a real
run do. All of it is written as `score` writes it; no model is run. Then each of these is a process
of its own, measured from its start to its end:

- ``facts``: what `score` does when the weights are there, `build_report` and its file.
- ``text``, ``json``, ``html``: ``trajweight report RUN`` as a user gives it, and what it writes
  with ``--json`` and into a page.
- ``start``: ``trajweight --version``, which is in all of these.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl
from bench import table, write
from ingest import MEGA, ROOT, Writer

from trajweight.manifest import input_facts, manifest_facts, now
from trajweight.progress import Progress
from trajweight.reading import Layout, OriginLabels, read_into
from trajweight.run import Run, create_run
from trajweight.weights import weight_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Mean quality of the sources, and how many rows of a hundred are theirs.
SOURCES = {"expert": (1.0, 20), "copy": (0.7, 25), "terse": (0.2, 15), "rambling": (-0.4, 25)}
SOURCES |= {"off-task": (-1.3, 15)}
#: One real row to so many synthetic ones, and how few and how many there are at least and at most.
REAL_SHARE, LEAST_REAL, MOST_REAL = 20, 120, 5_000
#: How real rows are split, and which share of the synthetic ones is left out as copies.
SPLITS = {"train": 0.4, "validation": 0.3, "dev": 0.15, "test": 0.15}
EXCLUDED = 0.01
ROWS_OF_TASK = 20
DIMENSIONS = 64
#: Questions with answers that rows are put together from, and the longest of their texts.
PAIRS, CHARACTERS = 20_000, 400
OUTER_STEPS = 80
#: What is measured of a process.
FIGURES = {
    "seconds": "seconds",
    "processor_seconds": "seconds of a processor",
    "peak_megabytes": "peak memory, MB",
}
FACTS = """
import sys
from pathlib import Path
from trajweight.analysis.report import build_report
from trajweight.run import load_run
run = load_run(Path(sys.argv[1]))
learning = {"mode": "learned", "selected": "head", "base_outer_loss": 2.4, "temperature": 1.0}
learning |= {"uniform_outer_loss": 1.9, "weighted_outer_loss": 1.8, "uniform_dev_loss": 1.95}
learning |= {"weighted_dev_loss": 1.86, "dev_gain": 0.09, "dev_gain_se": 0.02}
run.save_report(build_report(run, learning))
"""


class Maker:
    """Makes runs of any size, with one hidden quality behind all that is known of a row."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        rows = islice(Writer(seed).rows(n_pairs=1), PAIRS)
        self._pairs = [
            [{**turn, "content": turn["content"][:CHARACTERS]} for turn in row["messages"]]
            for row in map(orjson.loads, rows)
        ]

    def run(self, folder: Path, n: int) -> Run:
        """A run with so many weights, finished but for its report.

        Args:
            folder: Where to; what else is written there goes again.
            n: Synthetic training rows, about.
        """
        n_real = min(MOST_REAL, max(LEAST_REAL, n // REAL_SHARE))
        quality = self._quality(n)
        data = folder / "data.jsonl"
        with data.open("wb") as stream:
            stream.writelines(self._rows(*quality, n_real))
        run = create_run(folder / "run", force=False)
        started = now()
        account = read_into(
            run.storage, [data], labels=OriginLabels(), layout=Layout(), progress=Progress()
        )
        known = self._split(run.trajectories())
        both = np.concatenate([quality[1], self._rng.normal(1.0, 0.5, size=n_real)])
        gone = known.filter(pl.col("split") == "excluded").select(
            "traj_id", reason=pl.lit("copy of a held-out row")
        )
        run.save_rows("excluded", gone.iter_rows(named=True))
        self._weigh(run, known, both)
        self._embed(run, known, both)
        for step in range(OUTER_STEPS):
            run.append_trace({"step": step + 1, "ess_fraction": 1.0 - 0.4 * step / OUTER_STEPS})
        counts = {"read": account.n_read, "kept": account.n_kept, "rejected": account.n_rejected}
        facts = manifest_facts(
            arguments={}, seeds={}, inputs=[input_facts(data)], counts=counts, started=started
        )
        run.save_manifest({**facts, "kind": "learned"})
        data.unlink()
        return run

    def _quality(self, n: int) -> tuple[list[str], np.ndarray]:
        """The source and the hidden quality of each synthetic row."""
        shares = np.array([share for _, share in SOURCES.values()])
        source = self._rng.choice(len(SOURCES), size=n, p=shares / shares.sum())
        means = np.array([mean for mean, _ in SOURCES.values()])
        quality = means[source] + self._rng.normal(0.0, 0.6, size=n)
        return [list(SOURCES)[place] for place in source], quality

    def _rows(self, sources: Sequence[str], quality: np.ndarray, n_real: int) -> Iterator[bytes]:
        """The rows as JSON lines, the real ones last."""
        n = len(sources)
        kinds = [("synthetic", name, value) for name, value in zip(sources, quality, strict=True)]
        kinds += [("real", "real", 1.0)] * n_real
        n_pairs = self._rng.geometric(0.6, size=n + n_real)
        first = self._rng.integers(0, len(self._pairs) - n_pairs.max(), size=n + n_real)
        luck = self._rng.normal(0.0, 0.5, size=n + n_real)
        for number, (origin, source, value) in enumerate(kinds):
            pairs = self._pairs[first[number] : first[number] + n_pairs[number]]
            row: dict[str, Any] = {
                "id": f"{source}-{number}",
                "source": source,
                "origin": origin,
                "task_id": f"{origin}-{number // ROWS_OF_TASK}",
                "messages": [turn for pair in pairs for turn in pair],
            }
            if number % 2:  # half of them know a reward
                row["reward"] = float(value + luck[number])
            yield orjson.dumps(row) + b"\n"

    def _split(self, known: pl.DataFrame) -> pl.DataFrame:
        """Each row's split; whole tasks are not minded, since the report does not ask."""
        is_real = (known["origin"] == "real").to_numpy()
        drawn = self._rng.choice(list(SPLITS), size=known.height, p=list(SPLITS.values()))
        is_copy = self._rng.random(known.height) < EXCLUDED
        split = np.where(is_real, drawn, np.where(is_copy, "excluded", "train"))
        return known.with_columns(split=pl.Series(split))

    def _weigh(self, run: Run, known: pl.DataFrame, quality: np.ndarray) -> None:
        """Weights between 0.02 and 1 by a noisy look at the quality, brought to mean one."""
        scores = quality + self._rng.normal(0.0, 0.5, size=len(quality))
        weights = 0.02 + 0.98 / (1.0 + np.exp(-1.5 * scores))
        is_learned = pl.col("split").eq("train") & pl.col("origin").eq("synthetic")
        told = known.with_columns(score=pl.Series(scores), weight=pl.Series(weights))
        learned = told.filter(is_learned)
        means = learned["weight"] / learned["weight"].mean()
        names = known["traj_id"].to_list()
        made = weight_table(
            known,
            weights=dict(zip(learned["traj_id"].to_list(), means.to_list(), strict=True)),
            real_weight=1.0,
            scores=dict(zip(names, scores.tolist(), strict=True)),
            n_tokens=dict(zip(names, (known["n_chars"] // 4).to_list(), strict=True)),
        )
        run.save_table("weights", made)

    def _embed(self, run: Run, known: pl.DataFrame, quality: np.ndarray) -> None:
        """Embeddings whose first direction is the quality, all others noise, some greater."""
        scale = 1.0 / np.sqrt(np.arange(1, DIMENSIONS + 1, dtype=np.float32))
        vectors = self._rng.standard_normal((known.height, DIMENSIONS), dtype=np.float32) * scale
        vectors[:, 0] += quality
        losses = 2.0 - 0.3 * quality + self._rng.normal(0.0, 0.4, size=known.height)
        features = {
            "traj_id": known["traj_id"],
            "n_assistant_tokens": known["n_chars"] // 6,
            "base_nll": np.maximum(losses, 0.05),
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, DIMENSIONS)),
        }
        made = pl.DataFrame(features).with_columns(pl.col("embedding").cast(pl.List(pl.Float32)))
        run.save_table("features", made)


def measured(command: Sequence[str]) -> dict[str, float]:
    """Seconds and peak memory of a process, from its start to its end, and what it computed.

    Seconds of a processor tell what others on the machine do not change.

    Raises:
        RuntimeError: If it fails.
    """
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while process.poll() is None:
        # What the process itself says of its peak: no look can come too late for a short one.
        if "VmHWM:" in (told := status.read_text()):
            peak = max(peak, int(told.partition("VmHWM:")[2].split()[0]))
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    complaint = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(complaint)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(computed, 2),
        "peak_megabytes": round(peak * 1024 / MEGA),
    }


def commands(run: Path, page: Path) -> dict[str, list[str]]:
    """What is measured; the facts come first, since all others show them."""
    cli = [sys.executable, "-m", "trajweight.cli"]
    report = [*cli, "report", str(run)]
    return {
        "start": [*cli, "--version"],
        "facts": [sys.executable, "-c", FACTS, str(run)],
        "text": report,
        "json": [*report, "--json"],
        "html": [*report, "--out", str(page), "--force"],
    }


def grown(found: list[dict[str, Any]]) -> None:
    """Tell of each figure how many times that of the fewest rows it is."""
    first = found[0]["cost"]
    for each in found:
        for name, cost in each["cost"].items():
            for figure in FIGURES:
                cost[f"times_{figure}"] = round(cost[figure] / first[name][figure], 2)


def main() -> None:
    """Measure all, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are made")
    options = parser.parse_args()
    maker, found = Maker(options.seed), []
    for n in sorted(options.rows):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            run = maker.run(folder, n)
            size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
            page = folder / "report.html"
            cost = {each: measured(one) for each, one in commands(run.folder, page).items()}
            n_weights = run.report()["weights"]["overall"]["n"]
            sizes = {"run_megabytes": round(size / MEGA, 1)}
            sizes["page_megabytes"] = round(page.stat().st_size / MEGA, 2)
        found.append({"rows": n, "weights": n_weights, **sizes, "cost": cost})
        print(found[-1], file=sys.stderr)
    grown(found)
    write("report", {"seed": options.seed, "dimensions": DIMENSIONS, "sizes": found})
    columns = ["rows", *found[0]["cost"]]
    for figure, title in FIGURES.items():
        rows = [
            [
                f"{each['rows']:,}",
                *(f"{one[figure]} (x{one[f'times_{figure}']})" for one in each["cost"].values()),
            ]
            for each in found
        ]
        print(f"\n{title}, and how many times that of the fewest rows\n\n{table(columns, rows)}")


if __name__ == "__main__":
    main()

"""Megabytes a second and peak memory of `trajweight ingest`, beside what others need to read.

    .venv/bin/python benchmarks/ingest.py                        # alone on the machine, 10 GB free
    .venv/bin/python benchmarks/ingest.py --megabytes 30 --sizes 30 60 --rows 20000   # a quick look

Speed is of one core: each program is bound to the same one and reads the same file of plain
``messages``, in turn, several times.

- ``ingest``: the command, from the first byte read to the last one written; its start is not in it,
  as that of the others is not.
- ``orjson``: lines parsed with orjson and hashed with SHA-256, and nothing kept; what reading
  costs at the least.
- ``datasets``: ``datasets.load_dataset("json")``, into a fresh cache.

Memory is the peak of what is resident while one process reads files that grow. A million short
trajectories in one file follow, and several files read by one process and by one a core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from bench import table, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
MEGA = 1_000_000
#: Words, phrases and turns that texts are put together from.
WORDS, PHRASES, TURNS = 20_000, 30_000, 20_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
ORJSON = """
import hashlib, orjson, sys, time
began = time.perf_counter()
with open(sys.argv[1], "rb") as stream:
    for line in stream:
        orjson.loads(line)
        hashlib.sha256(line).hexdigest()
print(time.perf_counter() - began)
"""
DATASETS = """
import sys, tempfile, time, datasets
datasets.disable_progress_bars()
with tempfile.TemporaryDirectory(dir=sys.argv[2]) as cache:
    began = time.perf_counter()
    found = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=cache)
    print(time.perf_counter() - began)
"""


class Writer:
    """Makes files of trajectories whose words and lengths are spread as those of real ones.

    A few words and phrases make most of a text, and a few system texts stand in all rows, so that
    zstd packs them fourfold, as it does rows of ShareGPT. A user says some thirty words, an
    assistant some hundred and fifty, now and then ten times as many; there are two to twenty turns
    after the system's.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        words = self._often([self._word() for _ in range(WORDS)], PHRASES * 4)
        phrases = [list(islice(words, self._random.randint(1, 6))) for _ in range(PHRASES)]
        self._phrases = self._often(phrases, TURNS * 60)
        self._system = [self._text(200) for _ in range(20)]
        self._asked = [self._text(self._length(3.2)) for _ in range(TURNS // 2)]
        self._answered = [self._text(self._length(4.9)) for _ in range(TURNS // 2)]
        self._number = 0

    def rows(self, *, n_pairs: int | None = None) -> Iterator[bytes]:
        """Trajectories as JSON lines, without end, and none with the id of another.

        Args:
            n_pairs: Questions and answers of each; by default one to ten.
        """
        pick = self._random.choice
        while True:
            self._number += 1
            turns = [{"role": "system", "content": pick(self._system)}] if n_pairs is None else []
            for _ in range(n_pairs or self._random.randint(1, 10)):
                turns.append({"role": "user", "content": pick(self._asked)})
                turns.append({"role": "assistant", "content": pick(self._answered)})
            row = {
                "id": f"trajectory-{self._number}",
                "source": f"model-{self._number % 3}",
                "task_id": f"task-{self._number % 5000}",
                "reward": self._random.random(),
                "messages": turns,
            }
            yield orjson.dumps(row) + b"\n"

    def write(self, path: Path, *, n_bytes: int) -> Path:
        """A file of at least so many bytes."""
        with path.open("wb") as stream:
            size, rows = 0, self.rows()
            while size < n_bytes:
                size += stream.write(next(rows))
        return path

    def _often(self, things: list[Any], n: int) -> Iterator[Any]:
        """Things drawn by Zipf's law, the first most often."""
        weights = [1 / rank for rank in range(1, len(things) + 1)]
        return iter(self._random.choices(things, weights, k=n))

    def _word(self) -> str:
        letters = LETTERS[: self._random.randint(6, len(LETTERS))]
        return "".join(self._random.choices(letters, k=self._random.randint(2, 10)))

    def _length(self, mean: float) -> int:
        return 1 + min(1500, int(self._random.lognormvariate(mean, 0.9)))

    def _text(self, n_words: int) -> str:
        words: list[str] = []
        while len(words) < n_words:
            words += next(self._phrases)
        for place in range(9, len(words), 13):
            words[place] += self._random.choice((".", ",", "\n", "?", f" {place}%"))
        return " ".join(words)


def on_core(command: list[str], core: int) -> str:
    """What a program prints that runs on one core alone.

    Raises:
        RuntimeError: If it fails.
    """
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_DATASETS_OFFLINE": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    said, complaint = started.communicate()
    if started.returncode:
        raise RuntimeError(complaint)
    return said


def ingest_command(paths: list[Path], out: Path, *, jobs: int) -> list[str]:
    """The command as a user gives it."""
    command = [sys.executable, "-m", "trajweight.cli", "ingest", *map(str, paths)]
    return [*command, "--out", str(out), "--jobs", str(jobs), "--quiet", "--force"]


def seconds_of(out: Path) -> float:
    """How long a run of `ingest` took, from the first stage to the last."""
    return sum(json.loads((out / "manifest.json").read_text())["seconds"].values())


def speeds(path: Path, folder: Path, *, rounds: int, core: int) -> dict[str, Any]:
    """Megabytes a second on one core, and their ratios."""
    megabytes = path.stat().st_size / MEGA

    def ingest() -> float:
        on_core(ingest_command([path], folder / "run", jobs=1), core)
        return seconds_of(folder / "run")

    programs = {
        "orjson": lambda: float(on_core([sys.executable, "-c", ORJSON, str(path)], core)),
        "ingest": ingest,
        "datasets": lambda: float(
            on_core([sys.executable, "-c", DATASETS, str(path), str(folder)], core)
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(rounds):
        for name, run in programs.items():
            found[name].append(round(megabytes / run(), 1))
            print(f"round {round_} {name}: {found[name][-1]} MB/s", file=sys.stderr)
    medians = {name: statistics.median(each) for name, each in found.items()}
    return {
        "megabytes": round(megabytes),
        "megabytes_per_second": found,
        "of_orjson": round(medians["ingest"] / medians["orjson"], 3),
        "times_datasets": round(medians["ingest"] / medians["datasets"], 2),
    }


def peak_of(paths: list[Path], out: Path) -> dict[str, Any]:
    """Time, peak memory and counts of one process that reads these files."""
    began = time.perf_counter()
    command = ingest_command(paths, out, jobs=1)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while process.poll() is None:
        # What the process itself says of its peak: no look can come too late for a short one.
        if "VmHWM:" in (told := status.read_text()):
            peak = max(peak, int(told.partition("VmHWM:")[2].split()[0]))
        time.sleep(0.01)
    if process.returncode:
        message = f"ingest ended with {process.returncode}"
        raise RuntimeError(message)
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    stored = sum(path.stat().st_size for path in out.rglob("*.parquet"))
    found = {
        "megabytes": round(sum(path.stat().st_size for path in paths) / MEGA),
        "rows": counts["kept"],
        "peak_resident_megabytes": round(peak * 1024 / MEGA),
        "seconds": round(time.perf_counter() - began, 1),
        "stored_megabytes": round(stored / MEGA),
    }
    print(f"memory: {found}", file=sys.stderr)
    return found


def sharing(writer: Writer, folder: Path, *, megabytes: int) -> dict[str, Any]:
    """Seconds for several files by one process, and by as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    paths = [
        writer.write(folder / f"{number}.jsonl", n_bytes=megabytes * MEGA)
        for number in range(2 * cores)
    ]
    seconds = {}
    for jobs in (1, cores):
        command = ingest_command(paths, folder / "run", jobs=jobs)
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        seconds[str(jobs)] = round(seconds_of(folder / "run"), 2)
    for path in paths:
        path.unlink()
    return {"files": len(paths), "megabytes_each": megabytes, "seconds_by_jobs": seconds}


def main() -> None:
    """Measure all, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300, help="of the file for the speed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[300, 1000, 5000])
    parser.add_argument("--rows", type=int, default=1_000_000, help="trajectories in one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made")
    options = parser.parse_args()
    writer = Writer(options.seed)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = writer.write(folder / "plain.jsonl", n_bytes=options.megabytes * MEGA)
        speed = speeds(path, folder, rounds=options.rounds, core=options.core)
        memory = []
        for size in options.sizes:
            writer.write(path, n_bytes=size * MEGA)
            memory.append(peak_of([path], folder / "run"))
        with path.open("wb") as stream:
            stream.writelines(islice(writer.rows(n_pairs=1), options.rows))
        many = peak_of([path], folder / "run")
        path.unlink()
        shared = sharing(writer, folder, megabytes=min(100, options.megabytes))
    results = {"seed": options.seed, "speed": speed, "memory": memory, "many_rows": many}
    write("ingest", {**results, "several_files": shared})
    medians = [
        (each, statistics.median(found)) for each, found in speed["megabytes_per_second"].items()
    ]
    print(table(["program", "MB/s on one core"], medians))
    columns = ["megabytes", "rows", "seconds", "peak_resident_megabytes", "stored_megabytes"]
    rows = [[each[column] for column in columns] for each in (*memory, many)]
    print(table([column.replace("_", " ") for column in columns], rows))
    print(f"several files: {shared}")


if __name__ == "__main__":
    main()

"""Thousands of damaged files: no traceback, no hang, no growth of memory, and every row counted.

    .venv/bin/python benchmarks/fuzz.py
    .venv/bin/python benchmarks/fuzz.py --also FOLDER

Begins with the sample files of every format, and with the files of other folders where they are
given, and damages them in the ways of `tests/fuzzing.py`. A case is good if it is read with rows
read = kept + rejected, or refused with one of our own errors.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import HERE, write

sys.path.insert(0, str(HERE.parent))

from tests.fuzzing import bomb, damaged, originals
from trajweight.errors import TrajweightError
from trajweight.reading import read_trajectories

#: Seconds after which a case counts as hanging.
PATIENCE = 30
#: Cases between two looks at the memory, and those before the first.
LOOK = 1000


class HangError(Exception):
    """A case took too long."""


def outcome(path: Path) -> str:
    """How reading a file ended.

    Raises:
        Exception: Whatever is no error of ours, and `HangError`.
    """
    try:
        reading = read_trajectories([path])
    except TrajweightError as error:
        return f"refused: {type(error).__name__}"
    if reading.n_read != reading.table.height + len(reading.rejected):
        message = f"{reading.n_read} read, {reading.table.height} + {len(reading.rejected)}"
        raise AssertionError(message)
    return "read" if reading.table.height else "all rejected"


def resident() -> float:
    """Resident memory now, in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def hang(*_: Any) -> None:
    """What the alarm does."""
    raise HangError


def main() -> None:
    """Run the cases, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--bombs", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    paths = [path for folder in (None, *options.also) for path in _files(folder)]
    files = [(path.name, path.read_bytes()) for path in paths]
    signal.signal(signal.SIGALRM, hang)
    outcomes: Counter[str] = Counter()
    failed: list[dict[str, Any]] = []
    memory: list[float] = []
    slowest = 0.0
    last = options.first_seed + options.cases
    plan = [(damaged, seed) for seed in range(options.first_seed, last)]
    plan += [(bomb, seed) for seed in range(last, last + options.bombs)]
    with tempfile.TemporaryDirectory() as folder:
        for number, (make, seed) in enumerate(plan, start=1):
            name, data = make(files, seed)
            path = Path(folder) / name
            path.write_bytes(data)
            signal.alarm(PATIENCE)
            began = time.perf_counter()
            try:
                outcomes[outcome(path)] += 1
            except Exception as error:  # noqa: BLE001 - what must not happen is what is looked for
                outcomes["FAILED"] += 1
                failed.append({"seed": seed, "name": name, "error": repr(error)[:300]})
                print(failed[-1], file=sys.stderr)
            signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - began)
            path.unlink()
            if number % LOOK == 0:
                memory.append(round(resident(), 1))
                print(f"{number}: {dict(outcomes)}, {memory[-1]} MiB", file=sys.stderr)
    results = {
        "cases": options.cases,
        "bombs": options.bombs,
        "files_begun_with": len(files),
        "outcomes": dict(outcomes),
        "failed": failed,
        "slowest_seconds": round(slowest, 2),
        "resident_mib_every_1000_cases": memory,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    write("fuzz", results)
    print(json.dumps({key: results[key] for key in ("outcomes", "slowest_seconds", "peak_mib")}))


def _files(folder: Path | None) -> list[Path]:
    return originals() if folder is None else originals(folder)


if __name__ == "__main__":
    main()

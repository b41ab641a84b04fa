"""Seconds and peak memory of exports as the rows grow; flat memory is the goal.

    .venv/bin/python benchmarks/export.py                     # alone on the machine, 10 GB free
    .venv/bin/python benchmarks/export.py --rows 1000 10000   # a quick look

The runs are those of ``benchmarks/report.py``. Each export is ``trajweight export-weights`` in a
process of its own, measured from its start to its end: plain rows, rows for TRL with their weights,
and rows for TRL resampled into three epochs. Of each row some numbers are in memory and no text, so
that a million rows need more than a thousand, but little; ``bytes_per_row`` says how much.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench import table, write
from ingest import MEGA
from report import Maker, measured

EXPORTS = {
    "jsonl": ("--to", "jsonl", "--out", "rows.jsonl"),
    "trl": ("--to", "trl", "--out", "trl"),
    "trl, resample": ("--to", "trl", "--mode", "resample", "--out", "resampled"),
}
NAME = "export"


def main() -> None:
    """Measure all, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are made")
    options = parser.parse_args()
    maker, cells = Maker(options.seed), []
    for n in sorted(options.rows):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            run = maker.run(Path(name), n)
            texts = sum(path.stat().st_size for path in run.storage.conversations.iterdir())
            for export, (*arguments, where) in EXPORTS.items():
                out = Path(name) / where
                command = [sys.executable, "-m", "trajweight.cli", "export-weights"]
                cost = measured([*command, str(run.folder), *arguments, str(out)])
                cells.append({"rows": n, "export": export, **cost, "run_texts_mb": texts // MEGA})
                print(cells[-1], file=sys.stderr)
                shutil.rmtree(out) if out.is_dir() else out.unlink()
    for cell in cells:
        few = next(each for each in cells if each["export"] == cell["export"])
        more = (cell["peak_megabytes"] - few["peak_megabytes"]) * MEGA
        added = cell["rows"] - few["rows"]
        cell["bytes_per_row"] = round(more / added) if added else None
    write(NAME, {"cells": cells})
    print(table(list(cells[0]), [list(cell.values()) for cell in cells]))


if __name__ == "__main__":
    main()

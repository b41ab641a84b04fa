"""Draws the report of a run as a terminal screenshot.

python sample_data/picture.py runs/sample        # writes report.svg beside this file
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from rich.console import Console

from trajweight.analysis.report import report_facts
from trajweight.cli._report_view import render
from trajweight.run import load_run


def main() -> None:
    """Render one run's report into an SVG of a terminal 80 columns wide."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "report.svg")
    chosen = parser.parse_args()
    console = Console(
        width=80, record=True, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    render(report_facts(load_run(chosen.run)), console)
    console.save_svg(str(chosen.out), title="trajweight report runs/sample", unique_id="report")


if __name__ == "__main__":
    main()

"""``trajweight bench``: ways to weigh, held against planted truth and by what a policy can do."""

# No deferred annotations: typer reads those of `Bench` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from trajweight.cli._options import DATA, OUTPUT, Common
from trajweight.cli._stages import watching

if TYPE_CHECKING:
    from trajweight.bench.grid import Grid
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface

#: Where finished cells are kept inside of the folder.
_CELLS = "cells.jsonl"


@dataclass(frozen=True, kw_only=True)
class Bench(Common):
    """The options of ``bench``.

    Attributes:
        grid: Name of one of our grids, or a file.
        out: The folder of the cells and the page.
        plan: Print what would be run, and end.
        page: Make the page from the finished cells, and run nothing.
        only: Environments to run.
        seeds: How many seeds, instead of the grid's.
    """

    grid: Annotated[
        str,
        Option(
            "--grid",
            metavar="NAME|FILE.toml",
            help="What to run: small (some minutes on two cores), night (a night on two cores), "
            "full (a GPU), or a file like theirs; default small.",
            rich_help_panel=DATA,
        ),
    ] = "small"
    out: Annotated[
        Path,
        Option(
            "--out",
            metavar="FOLDER",
            help="Folder of the finished cells and the page; cells that are there already are "
            "not run again; default bench.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("bench")
    only: Annotated[
        list[str] | None,
        Option(
            "--only",
            metavar="ENVIRONMENT",
            help="Run this environment of the grid only; may be repeated. Processes that run "
            "different environments may share a folder.",
            rich_help_panel=DATA,
        ),
    ] = None
    seeds: Annotated[
        int | None,
        Option(
            "--seeds",
            min=1,
            metavar="N",
            help="Seeds to run, from 0, instead of the grid's number.",
            rich_help_panel=DATA,
        ),
    ] = None
    plan: Annotated[
        bool,
        Option(
            "--plan",
            metavar="",
            help="Print how many cells there are and how many are finished, and end.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    page: Annotated[
        bool,
        Option(
            "--page",
            metavar="",
            help="Make the page from the finished cells, and run nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False


def bench(chosen: Bench, surface: "Surface", _: "Typed") -> None:
    """Compare learned weights with every baseline on games whose bad data are known.

    Plays pools of good and bad trajectories, weighs them by each method, fine-tunes a policy with
    each and lets it play games of its own. Needs pip install 'trajweight[bench]' and Java.
    """
    with watching(surface, chosen.out) as progress:
        progress.start("loading libraries")
        from trajweight.bench.ledger import Ledger
        from trajweight.bench.results import write_results
        from trajweight.bench.running import run_grid

        progress.finish()
        grid, only = _grid(chosen), chosen.only or ()
        ledger = Ledger(chosen.out / _CELLS, grid.setup)
        planned = list(grid.cells(only))
        left_out: list[str] = []
        if not (chosen.plan or chosen.page):
            left_out = run_grid(grid, ledger, progress, only)
    done = sum(cell in ledger.done for cell in planned)
    surface.print(f"Grid {grid.name}: {done} of {len(planned)} cells are finished.")
    written = {}
    if not chosen.plan and ledger.done:
        files = write_results(ledger.path, chosen.out, planned=set(planned))
        written = {"page": files[0]}
        surface.print(f"Page: {files[0]}")
    surface.finish(
        outputs={"cells": ledger.path, **written},
        metrics={"cells": len(planned), "finished": done},
        left_out=left_out,
    )


def _grid(chosen: Bench) -> "Grid":
    """The grid that was asked for."""
    from dataclasses import replace

    from trajweight.bench.grid import Grid
    from trajweight.errors import ConfigError

    path = Path(chosen.grid)
    grid = Grid.load(path.stem, path) if path.suffix == ".toml" else Grid.load(chosen.grid)
    if chosen.seeds is not None:
        grid = replace(grid, seeds=chosen.seeds)
    if strange := [name for name in chosen.only or () if name not in grid.environments]:
        message = f"--only {strange[0]}: grid {grid.name} has no such environment"
        raise ConfigError(message, hint=f"It has {', '.join(grid.environments)}.")
    return grid

"""``trajweight browse``: the trajectories of a run by weight, to read and to mark."""

# No deferred annotations: typer reads those of `Browse` when the program starts.
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from trajweight.cli._options import OUTPUT, Common, RunFolder
from trajweight.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from trajweight.cli._browser import Browser
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface


@dataclass(frozen=True, kw_only=True)
class Browse(Common):
    """The options of ``browse``.

    Attributes:
        run: The run.
        out: The file of marks.
    """

    run: RunFolder
    out: Annotated[
        Path | None,
        Option(
            "--out",
            metavar="FILE",
            help="File for the rows you mark, as JSON lines of id, weight and note; marks that it "
            "holds are gone on with, or dropped with --force; default marks.jsonl in RUN.",
            rich_help_panel=OUTPUT,
        ),
    ] = None


def browse(chosen: Browse, surface: "Surface", typed: "Typed") -> None:
    r"""Read trajectories by weight in the terminal, and mark some; ? tells the keys.

    Needs the extra browse: pip install 'trajweight\[browse]'. No model is loaded.
    """
    browser = _browser_class()
    _require_terminal()
    from trajweight.cli._browsing import load_rows
    from trajweight.cli._marks import load_marks, marks_file
    from trajweight.run import load_run

    run = load_run(chosen.run)
    path = marks_file(chosen.out, run)
    rows = load_rows(run)
    marks = load_marks(path, rows["traj_id"], force=chosen.force)
    if marks.strangers:
        surface.warn(f"{path} has marks of {len(marks.strangers)} rows that are not in this run")
    app = browser(
        run, rows, marks, rng=random.Random(chosen.seed or 0), interruption=typed.interruption
    )
    with typed.interruption.deferred():  # so that the terminal is put back first
        app.run()
    if app.failure is not None:
        raise app.failure
    if app.has_written:
        surface.print(str(path))
    surface.finish(
        inputs=[chosen.run],
        outputs={"marks": path} if app.has_written else {},
        metrics={"n_rows": rows.height, "n_marked": len(marks.notes)},
    )


def _browser_class() -> "type[Browser]":
    """The browser, which needs a package that is not always there.

    Raises:
        MissingError: If it is not, or too old.
    """
    try:
        from trajweight.cli._browser import Browser
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        message = f"browse needs the package textual, 8.2 or newer: {error}"
        raise MissingError(message, hint="pip install --upgrade 'trajweight[browse]'") from error
    return Browser


def _require_terminal() -> None:
    """Keys are read from stdin, and the screen is drawn on stderr, which leaves stdout free.

    Raises:
        ConfigError: If one of them is no terminal that can be drawn on.
    """
    for name, stream in (("stdin", sys.__stdin__), ("stderr", sys.__stderr__)):
        if stream is None or not stream.isatty():
            message = f"browse needs a terminal, and {name} is none."
            raise ConfigError(message, hint="Elsewhere, take: trajweight report RUN --out run.html")
    if os.environ.get("TERM") == "dumb":
        message = "browse cannot draw on this terminal: TERM is dumb."
        raise ConfigError(message, hint="Elsewhere, take: trajweight report RUN --out run.html")

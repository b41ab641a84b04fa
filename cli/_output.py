"""The file that a command writes its finding to, and over what it never writes."""

# No deferred annotations: typer reads `OutFile` when the program starts.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from trajweight.cli._options import OUTPUT
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trajweight.run import Run

OutFile = Annotated[
    Path | None,
    Option(
        "--out",
        metavar="FILE",
        help="Write it to a file, as text of 80 columns or, with --json, as JSON; default stdout.",
        rich_help_panel=OUTPUT,
    ),
]


def require_no_part(out: Path, runs: "Iterable[Run]") -> None:
    """Refuse a path that belongs to a run.

    Raises:
        ConfigError: If it does.
    """
    if any(run.owns(out) for run in runs):
        message = f"--out {out} is part of the run itself."
        raise ConfigError(message, hint="Give another --out.")


def require_free_file(out: Path, *, force: bool, runs: "Iterable[Run]" = ()) -> None:
    """Refuse a path that the user did not give up.

    Args:
        out: Where a file shall stand.
        force: Whether it may take the place of another.
        runs: What it must be no part of.

    Raises:
        ConfigError: If it is part of a run, a folder, or there already.
    """
    require_no_part(out, runs)
    if out.is_dir():
        message = f"--out {out} is a folder; this is written to a file."
        raise ConfigError(message, hint="Give a file name.")
    if out.is_file() and not force:
        message = f"--out {out} is already there."
        raise ConfigError(message, hint="--force or another --out")


def write_text(out: Path, text: str, *, force: bool, runs: "Iterable[Run]" = ()) -> None:
    """Write a file whole, but over nothing that the user did not give up.

    Raises:
        ConfigError: See `require_free_file`.
        TrajweightError: If the system refuses.
    """
    from trajweight.files import write_atomically

    require_free_file(out, force=force, runs=runs)
    write_atomically(out, text.encode())

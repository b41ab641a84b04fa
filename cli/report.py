"""``trajweight report``: what a run found, read back and shown."""

# No deferred annotations: typer reads those of `Report` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from trajweight.cli._console import as_json_text, text_file
from trajweight.cli._making import metrics_of
from trajweight.cli._options import OUTPUT, Common, RunFolder
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """The options of ``report``.

    Attributes:
        run: The run.
        out: A file to write instead of stdout.
    """

    run: RunFolder
    out: Annotated[
        Path | None,
        Option(
            "--out",
            metavar="FILE",
            help="Write the report to a file, as text of 80 columns or, with --json, as JSON; "
            "default stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None


def report(chosen: Report, surface: "Surface", _typed: "Typed") -> None:
    """Show what a run found: weights by source, losses, distances, the extremes."""
    from trajweight.analysis.report import report_facts
    from trajweight.cli._report_view import render
    from trajweight.run import load_run

    run = load_run(chosen.run)
    facts = report_facts(run)
    surface.adopt(facts["warnings"])
    told = {
        "inputs": [chosen.run],
        "outputs": {} if chosen.out is None else {"report": chosen.out},
        "metrics": metrics_of(facts),
        "report": facts,
    }
    if chosen.out is not None:
        written, stream = text_file()
        render(facts, written)
        whole = as_json_text(surface.envelope("ok", **told))
        _write(chosen, whole if surface.as_json else stream.getvalue())
        surface.print(str(chosen.out))
    elif not surface.as_json:
        render(facts, surface.out)
    surface.finish(**told)


def _write(chosen: Report, text: str) -> None:
    """Write the file, but over nothing that the user did not give up."""
    from trajweight.files import write_atomically
    from trajweight.run import RUN_FILES

    out = chosen.out
    assert out is not None
    if out.resolve() in {(chosen.run / name).resolve() for name in RUN_FILES}:
        message = f"--out {out} is part of the run itself."
        raise ConfigError(message, hint="Give another --out.")
    if out.is_dir():
        message = f"--out {out} is a folder; the report is written to a file."
        raise ConfigError(message, hint="Give a file name.")
    if out.is_file() and not chosen.force:
        message = f"--out {out} is already there."
        raise ConfigError(message, hint="--force or another --out")
    write_atomically(out, text.encode())

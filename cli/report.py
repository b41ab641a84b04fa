"""``trajweight report``: what a run found, read back and shown."""

# No deferred annotations: typer reads those of `Report` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from typer import Argument, Option

from trajweight.cli._console import as_json_text, text_file
from trajweight.cli._gates import Gates, finish
from trajweight.cli._making import metrics_of
from trajweight.cli._options import OUTPUT
from trajweight.cli._output import write_text
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.run import Run

Format = Literal["text", "json", "markdown", "html"]
#: What the ending of a file says of what is to stand in it.
_ENDINGS: Final[dict[str, Format]] = {
    ".txt": "text",
    ".json": "json",
    ".md": "markdown",
    ".html": "html",
}


@dataclass(frozen=True, kw_only=True)
class Report(Gates):
    """The options of ``report``.

    Attributes:
        run: The run; not needed for the schema.
        out: A file to write instead of stdout.
        format: What to write.
        plots: A folder for the figures.
        schema: Print the JSON schema instead.
    """

    run: Annotated[Path | None, Argument(metavar="RUN", help="Folder of a finished run.")] = None
    out: Annotated[
        Path | None,
        Option(
            "--out",
            metavar="FILE",
            help="Write the report to a file; .md, .html, .json or .txt decides what stands in "
            "it; default stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    format: Annotated[
        Format | None,
        Option(
            "--format",
            help="What to write: text of 80 columns, JSON, Markdown, or one page of HTML with "
            "figures and trajectories; default text, or what --out says.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    plots: Annotated[
        Path | None,
        Option(
            "--plots",
            metavar="FOLDER",
            help="Also write the figures into a folder, each as PNG and as SVG.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    schema: Annotated[
        bool,
        Option(
            "--schema",
            metavar="",
            help="Print the JSON schema of --json and of report.json; no RUN is needed.",
            rich_help_panel=OUTPUT,
        ),
    ] = False


def report(chosen: Report, surface: "Surface", _typed: "Typed") -> None:
    """Show what a run found: weights by source, what explains them, distances, the extremes."""
    from trajweight.analysis.report import report_facts, report_schema
    from trajweight.run import load_run

    if chosen.schema:
        surface.out.file.write(report_schema())
        return
    if chosen.run is None:
        message = "no RUN was given."
        raise ConfigError(message, hint="Name the folder of a finished run, or ask for --schema.")
    kind = _format(chosen)
    surface.as_json = surface.as_json or (kind == "json" and chosen.out is None)
    run = load_run(chosen.run)
    facts = report_facts(run)
    surface.adopt(facts["warnings"])
    told: dict[str, Any] = {
        "inputs": [chosen.run],
        "outputs": {} if chosen.out is None else {"report": chosen.out},
        "metrics": metrics_of(facts),
        "report": facts,
    }
    if chosen.plots is not None:
        told["outputs"]["plots"] = chosen.plots
        _plot(chosen.plots, facts, force=chosen.force)
    if chosen.out is not None:
        whole = surface.envelope("ok", **told)
        text = _written(kind, facts, run, whole)
        write_text(chosen.out, text, force=chosen.force, runs=(run,))
        surface.print(str(chosen.out))
    elif kind == "text" and not surface.as_json:
        from trajweight.cli._report_view import render

        render(facts, surface.out)
    elif not surface.as_json:
        surface.out.file.write(_written(kind, facts, run, {}))
    finish(chosen, facts, surface, **told)


def _format(chosen: Report) -> Format:
    """What to write: as asked, else by the ending of the file, else text or what --json says."""
    asked = chosen.format
    if chosen.out is None and chosen.as_json and asked not in (None, "json"):
        message = f"--format {asked} and --json cannot both go to stdout."
        raise ConfigError(message, hint="Give --out FILE, or leave out one of them.")
    told = asked or (_ENDINGS.get(chosen.out.suffix.lower()) if chosen.out else None)
    return told or ("json" if chosen.as_json else "text")


def _written(kind: Format, facts: "Mapping[str, Any]", run: "Run", whole: dict[str, Any]) -> str:
    """The report as the text of a file."""
    if kind == "json":
        return as_json_text(whole)
    if kind == "markdown":
        from trajweight.analysis.markdown import document

        return document(facts)
    if kind == "html":
        from trajweight.analysis.html import page
        from trajweight.analysis.html_rows import rows_of

        shown = rows_of(run)
        return page(facts, shown.rows, name=run.folder.name, told=shown.told)
    from trajweight.cli._report_view import render

    written, stream = text_file()
    render(facts, written)
    return stream.getvalue()


def _plot(folder: Path, facts: "Mapping[str, Any]", *, force: bool) -> None:
    """Write the figures, but over nothing that the user did not give up."""
    from trajweight.analysis.plots import save_plots

    if folder.exists() and not folder.is_dir():
        message = f"--plots {folder} is a file; the figures are written into a folder."
        raise ConfigError(message, hint="Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        message = f"--plots {folder} is not empty."
        raise ConfigError(message, hint="--force or another --plots")
    save_plots(facts, folder)

"""``trajweight inspect``: what is in files, before anything else."""

# No deferred annotations: typer reads those of `Inspect` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from trajweight.cli._console import as_json_text, text_file
from trajweight.cli._options import DATA, Common, Mapped
from trajweight.cli._output import OutFile, write_text

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.survey import Survey


@dataclass(frozen=True, kw_only=True)
class Inspect(Common):
    """The options of ``inspect``.

    Attributes:
        paths: Files, folders or patterns.
        format: Name of the format of every file.
        map: Where rows say things.
        all: Look at every row.
        out: A file to write instead of stdout.
    """

    paths: Annotated[
        list[str],
        Argument(metavar="PATHS", help="Files, folders or patterns; - for standard input."),
    ]
    format: Annotated[
        str,
        Option(
            "--format",
            metavar="NAME",
            show_default=False,
            help="Format of every file; default auto: the first records of each file tell it.",
            rich_help_panel=DATA,
        ),
    ] = "auto"
    map: Mapped = None
    all: Annotated[
        bool,
        Option(
            "--all",
            metavar="",
            help="Look at every row; default the first 1000 of each file.",
            rich_help_panel=DATA,
        ),
    ] = False

    out: OutFile = None


def inspect(chosen: Inspect, surface: "Surface", _typed: "Typed") -> None:
    """Tell what is in files: format, sources, rewards, turns, tokens, problems, five samples.

    Nothing is written, and no model is loaded. A file that is of no known format is told with its
    keys, the formats nearest to it, and how to map it.
    """
    from trajweight.cli._inspect_view import render
    from trajweight.rows import Layout
    from trajweight.survey import FIRST_ROWS, failed, survey

    layout = Layout.of(chosen.format, chosen.map or ())
    rows = None if chosen.all else FIRST_ROWS
    surveys: list[Survey] = []
    for path in chosen.paths:
        surveys += survey(Path(path), layout=layout, rows=rows)
    errors = failed(surveys)
    if len(errors) == len(surveys) == 1:
        raise errors[0]
    for error in errors:
        surface.warn(error.message)
        for line in error.hint.splitlines():
            surface.say(line)
    understood = [each for each in surveys if each.error is None]
    facts = {
        "inputs": chosen.paths,
        "outputs": {} if chosen.out is None else {"survey": chosen.out},
        "metrics": {
            "files": len(surveys),
            "files_not_understood": len(errors),
            "rows": sum(each.facts["rows"]["seen"] for each in understood),
        },
        "files": [_as_json(each) for each in surveys],
    }
    if chosen.out is not None:
        written, stream = text_file()
        for each in understood:
            render(str(each.path), each.facts, written)
        whole = as_json_text(surface.envelope("ok", **facts))
        text = whole if surface.as_json else stream.getvalue()
        write_text(chosen.out, text, force=chosen.force)
        surface.print(str(chosen.out))
    elif not surface.as_json:
        for each in understood:
            render(str(each.path), each.facts, surface.out)
    surface.finish(**facts)
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _as_json(found: "Survey") -> dict[str, object]:
    """What is known of a file, as an object of ``--json``."""
    if found.error is None:
        return {"path": found.path, **found.facts}
    error = {"code": found.error.code, "message": found.error.message, "hint": found.error.hint}
    return {"path": found.path, "error": error}

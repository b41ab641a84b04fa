"""``trajweight join``: a run's weights, back in data that went its own way since."""

# No deferred annotations: typer reads those of `Join` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from trajweight.cli._options import DATA, OUTPUT, SELECTION, Common, Mapped
from trajweight.cli._stages import watching
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.join import Joined


@dataclass(frozen=True, kw_only=True)
class Join(Common):
    """The options of ``join``.

    Attributes:
        paths: Files, folders or patterns.
        weights: The run.
        out: The file to write.
        by: How rows are found in the run.
        unmatched: What becomes of rows without a weight.
        list: A file that names these rows.
        format: Name of the format of every file.
        map: Where rows say things.
    """

    paths: Annotated[
        list[str],
        Argument(metavar="DATA", help="Files, folders or patterns; - for standard input."),
    ]
    weights: Annotated[
        Path,
        Option(
            "--weights",
            metavar="RUN",
            help="Folder of the run whose weights to give.",
            rich_help_panel=DATA,
        ),
    ]
    out: Annotated[
        Path,
        Option(
            "--out",
            metavar="FILE",
            help="File to write: .jsonl, .jsonl.gz, or .parquet where the data is Parquet.",
            rich_help_panel=OUTPUT,
        ),
    ]
    by: Annotated[
        Literal["auto", "id", "content"],
        Option(
            "--by",
            show_default=False,
            help="How rows are found in the run: by their id, by what they say, or by the id first "
            "and then by what they say; default auto, which is the last.",
            rich_help_panel=SELECTION,
        ),
    ] = "auto"
    unmatched: Annotated[
        Literal["drop", "keep"],
        Option(
            "--unmatched",
            show_default=False,
            help="Leave out rows that have no weight, or keep them with null; default drop, since "
            "a trainer may take null for 1.",
            rich_help_panel=SELECTION,
        ),
    ] = "drop"
    list: Annotated[
        Path | None,
        Option(
            "--list",
            metavar="FILE",
            help="Name every row without a weight, and every row of the run that was not found, "
            "in a file of JSON lines; default none.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
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


def join(chosen: Join, surface: "Surface", _typed: "Typed") -> None:
    """Give rows the weights that a run has learned for them, whatever became of the rows since.

    Each row is written as it stands with a root field weight. Rows that the run does not know, or
    that it held out of training, are counted and left out.
    """
    if chosen.list is not None and chosen.list.absolute() == chosen.out.absolute():
        message = f"--out and --list both name {chosen.out}."
        raise ConfigError(message, hint="Give two files.")
    with watching(surface, chosen.out) as progress:
        from trajweight.join import join_weights
        from trajweight.rows import Layout
        from trajweight.run import load_run

        joined = join_weights(
            load_run(chosen.weights),
            [Path(path) for path in chosen.paths],
            chosen.out,
            by=chosen.by,
            unmatched=chosen.unmatched,
            layout=Layout.of(chosen.format, chosen.map or ()),
            listing=chosen.list,
            force=chosen.force,
            progress=progress,
        )
    for line in _told(joined):
        surface.print(line)
    for note in (*_listed(joined), *joined.notes):
        surface.say(note)
    for warning in joined.warnings:
        surface.warn(warning)
    surface.finish(
        inputs=[*chosen.paths, chosen.weights],
        outputs={"joined": joined.path} | ({} if chosen.list is None else {"list": chosen.list}),
        metrics={
            "n_read": joined.n_read,
            "n_written": joined.n_written,
            "n_matched": joined.n_matched,
            "n_without_weight": joined.n_without_weight,
            "n_rejected": joined.n_rejected,
            "n_not_found": joined.n_not_found,
            "mean_weight": joined.mean_weight,
        },
        examples=joined.examples,
    )


def _told(joined: "Joined") -> list[str]:
    """What was written, how rows were found, and what was not."""
    lines = [f"{joined.path}: {joined.n_written} of {joined.n_read} rows"]
    words = {"id": "by id", "content": "by content", "changed": "by id though they say otherwise"}
    found = [f"{joined.n_matched[how]} {words[how]}" for how in words if how in joined.n_matched]
    lines.append(f"Found: {', '.join(found)}.")
    without = [f"{count} {why}" for why, count in sorted(joined.n_without_weight.items())]
    if joined.n_rejected:
        without.append(f"{joined.n_rejected} unusable")
    if without:
        lines.append(f"Without a weight: {', '.join(without)}.")
    if joined.n_not_found:
        lines.append(f"Rows of the run that no row of the data is: {joined.n_not_found}.")
    return lines


def _listed(joined: "Joined") -> list[str]:
    """A few of the rows of each kind, by name."""
    return [f"{kind}: {', '.join(named)}" for kind, named in sorted(joined.examples.items())]

"""``trajweight export-weights``: a run's rows with their weights, for a trainer."""

# No deferred annotations: typer reads those of `ExportWeights` when the program starts.
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from typer import Option

from trajweight.cli._options import OUTPUT, SELECTION, Common, ExportFormat, RunFolder
from trajweight.cli._stages import watching
from trajweight.errors import ConfigError
from trajweight.trajectory import ORIGINS, SPLITS

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.export import ExportResult
    from trajweight.trajectory import Origin, Split


@dataclass(frozen=True, kw_only=True)
class ExportWeights(Common):
    """The options of ``export-weights``.

    Attributes:
        run: The run.
        out: The file or folder to write.
        format: How; auto goes by the ending.
        min_weight: Least weight of a synthetic row.
        top_k: How many synthetic rows.
        top_fraction: What share of the synthetic training rows.
        split: Splits to take.
        origin: Origins to take.
    """

    run: RunFolder
    out: Annotated[
        Path,
        Option(
            "--out",
            metavar="PATH",
            help="File to write (.jsonl, .jsonl.gz, .parquet), or a folder for datasets.",
            rich_help_panel=OUTPUT,
        ),
    ]
    format: Annotated[
        ExportFormat,
        Option(
            "--format",
            metavar="NAME",
            show_default=False,
            help="auto, jsonl, parquet or datasets; default auto: by the ending of --out.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto"
    min_weight: Annotated[
        float | None,
        Option(
            "--min-weight",
            metavar="X",
            help="Leave out synthetic rows below this weight (their mean is 1); default none.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    top_k: Annotated[
        int | None,
        Option(
            "--top-k",
            metavar="N",
            help="Take the N heaviest synthetic rows; default all.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    top_fraction: Annotated[
        float | None,
        Option(
            "--top-fraction",
            metavar="F",
            help="Take the heaviest share of the synthetic rows, above 0 and up to 1; default all.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    split: Annotated[
        list[str] | None,
        Option(
            "--split",
            metavar="NAME",
            help=f"Split to take ({', '.join(SPLITS)}); may be repeated; default train.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    origin: Annotated[
        list[str] | None,
        Option(
            "--origin",
            metavar="NAME",
            help="Origin to take (real, synthetic); may be repeated; default both.",
            rich_help_panel=SELECTION,
        ),
    ] = None


def export_weights(chosen: ExportWeights, surface: "Surface", _typed: "Typed") -> None:
    """Write the rows of a run with their weights, as JSONL, Parquet or a datasets folder.

    JSONL gives each original row back with a root field weight. Validation, dev and test rows
    stay out unless --split asks for them.
    """
    is_stdout = _is_stdout(chosen.out)
    if is_stdout and surface.as_json:
        message = f"--out {chosen.out} and --json both write to stdout."
        raise ConfigError(message, hint="Give a file, or leave out --json.")
    with watching(surface, chosen.out):
        from trajweight import export
        from trajweight.run import load_run

        result = export.export_weights(
            load_run(chosen.run),
            chosen.out,
            format=chosen.format,
            # not Literal types: typer knows none in a list; the library checks the names
            splits=cast("list[Split]", chosen.split or ["train"]),
            origins=cast("list[Origin]", chosen.origin or ORIGINS),
            min_weight=chosen.min_weight,
            top_k=chosen.top_k,
            top_fraction=chosen.top_fraction,
            force=chosen.force,
        )
    for line in _told(result):
        (surface.say if is_stdout else surface.print)(line)
    for note in result.notes:
        surface.say(note)
    surface.finish(
        inputs=[chosen.run],
        outputs={"export": result.path},
        metrics={
            "format": result.format,
            "n_rows": result.n_rows,
            "n_left_out": result.n_left_out,
            "mass_kept": result.mass_kept,
            "mean_weight": result.mean_weight,
        },
    )


def _told(result: "ExportResult") -> list[str]:
    """What was written, and what was not and why."""
    lines = [f"{result.path}: {result.n_rows} rows as {result.format}"]
    if result.mean_weight is not None:
        mass = f"{result.mass_kept:.0%} of the synthetic mass"
        lines.append(f"Mean weight {result.mean_weight:.3f}, {mass}.")
    left_out = [f"{count} {reason}" for reason, count in result.n_left_out.items()]
    return [*lines, f"Left out: {', '.join(left_out)}."] if left_out else lines


def _is_stdout(path: Path) -> bool:
    """Whether a path is where our own lines would go too, as /dev/stdout in a pipe is."""
    try:
        return not path.is_file() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False

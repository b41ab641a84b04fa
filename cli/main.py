"""The program ``trajweight``: its commands put together, and nothing else."""

import sys
from typing import Annotated, Final

import typer

from trajweight import __version__
from trajweight.cli._command import add_command
from trajweight.cli._options import Learning
from trajweight.cli._shell import EXIT_CODES, Shell
from trajweight.cli.bench import Bench, bench
from trajweight.cli.browse import Browse, browse
from trajweight.cli.diff import Diff, diff
from trajweight.cli.explain import Explain, explain
from trajweight.cli.export_weights import ExportWeights, export_weights
from trajweight.cli.ingest import Ingest, ingest
from trajweight.cli.inspect import Inspect, inspect
from trajweight.cli.join import Join, join
from trajweight.cli.report import Report, report
from trajweight.cli.score import Score, score
from trajweight.cli.train_bilevel import train_bilevel
from trajweight.cli.verify_export import VerifyExport, verify_export

_EPILOG: Final = (
    "Results go to stdout, everything else to stderr. Options of the panels Model and Learning, "
    "--seed and --config are also read from the environment, as TRAJWEIGHT_MODEL and so on. "
    f"{EXIT_CODES}"
)

app = typer.Typer(
    name="trajweight",
    cls=Shell,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        typer.echo(f"trajweight {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_print_version,
            is_eager=True,
            help="Print the version and end.",
        ),
    ] = False,
    _debug: Annotated[
        bool,
        typer.Option(
            "--debug", metavar="", help="Show the traceback of an error; also TRAJWEIGHT_DEBUG=1."
        ),
    ] = False,
) -> None:
    """Learn how much each synthetic multi-turn trajectory should count, from a few real ones.

    Begin with: trajweight inspect data.jsonl, then trajweight score data.jsonl
    """
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help())
        raise typer.Exit(2)


add_command(app, "score", Score, score)
add_command(app, "export-weights", ExportWeights, export_weights)
add_command(app, "verify-export", VerifyExport, verify_export)
add_command(app, "join", Join, join)
add_command(app, "report", Report, report)
add_command(app, "explain", Explain, explain)
add_command(app, "diff", Diff, diff)
add_command(app, "browse", Browse, browse)
add_command(app, "inspect", Inspect, inspect)
add_command(app, "ingest", Ingest, ingest)
add_command(app, "train-bilevel", Learning, train_bilevel)
add_command(app, "bench", Bench, bench)

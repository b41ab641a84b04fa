"""``trajweight diff``: what changed between two runs."""

# No deferred annotations: typer reads those of `Diff` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from trajweight.cli._console import as_json_text, text_file
from trajweight.cli._options import OUTPUT, Common
from trajweight.cli._output import OutFile, require_free_file, write_text

if TYPE_CHECKING:
    from trajweight.analysis.difference import Difference
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface


@dataclass(frozen=True, kw_only=True)
class Diff(Common):
    """The options of ``diff``.

    Attributes:
        run_a: The run to compare with.
        run_b: The run that is compared.
        top: Rows to list.
        out: A file to write instead of stdout.
    """

    run_a: Annotated[Path, Argument(metavar="RUN_A", help="Folder of a finished run.")]
    run_b: Annotated[Path, Argument(metavar="RUN_B", help="Folder of another finished run.")]
    top: Annotated[
        int,
        Option(
            "--top",
            min=0,
            metavar="N",
            help="Rows to list of those whose weights moved most, and of each change of split.",
            rich_help_panel=OUTPUT,
        ),
    ] = 10
    out: OutFile = None


def diff(chosen: Diff, surface: "Surface", _typed: "Typed") -> None:
    """Tell what changed between two runs: rows, weights by source, ESS, settings, versions, files.

    Rows are matched by their content, then by their ids. It ends with code 0 whether or not the
    runs differ, which `difference.are_same` of --json tells, and with 3 where they cannot be
    compared: one is no run or did not finish, or they have no row in common.
    """
    from trajweight.analysis.difference import difference
    from trajweight.cli._diff_view import render
    from trajweight.run import load_run

    run_a, run_b = load_run(chosen.run_a), load_run(chosen.run_b)
    if chosen.out is not None:
        require_free_file(chosen.out, force=chosen.force, runs=(run_a, run_b))
    found = difference(run_a, run_b, top=chosen.top, seed=chosen.seed or 0)
    facts = found.as_dict()
    told: dict[str, Any] = {
        "inputs": [chosen.run_a, chosen.run_b],
        "outputs": {} if chosen.out is None else {"difference": chosen.out},
        "metrics": _metrics(found),
        "difference": facts,
    }
    names = str(chosen.run_a), str(chosen.run_b)
    if chosen.out is not None:
        written, stream = text_file()
        render(facts, names, written)
        whole = as_json_text(surface.envelope("ok", **told))
        text = whole if surface.as_json else stream.getvalue()
        write_text(chosen.out, text, force=chosen.force, runs=(run_a, run_b))
        surface.print(str(chosen.out))
    elif not surface.as_json:
        render(facts, names, surface.out)
    surface.finish(**told)


def _metrics(found: "Difference") -> dict[str, Any]:
    """The few numbers that a script asks for first; one not known is None."""
    return {
        "are_same": found.are_same,
        "rows_in_both": found.rows.n_both,
        "rows_only_a": found.rows.n_only_a,
        "rows_only_b": found.rows.n_only_b,
        "spearman": found.weights.spearman.value,
        "ess_fraction_a": found.size_a.synthetic.ess_fraction,
        "ess_fraction_b": found.size_b.synthetic.ess_fraction,
    }

"""Gates for scripts: what a run must keep to, or the command ends with code 4.

The work is done and the report is shown in any case; only the exit code and a message differ.
"""

# No deferred annotations: typer reads those of `Gates` when the program starts.
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from trajweight.cli._options import OUTPUT, Common
from trajweight.errors import GateError

if TYPE_CHECKING:
    from trajweight.cli._console import Surface


@dataclass(frozen=True, kw_only=True)
class Gates(Common):
    """What commands take that show a report.

    Attributes:
        fail_under_ess: The least effective share of the rows.
        max_top1_mass: The most mass that one row may hold.
    """

    fail_under_ess: Annotated[
        float | None,
        Option(
            "--fail-under-ess",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="End with code 4 where ESS/n of the synthetic training rows is less, such as 0.3.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    max_top1_mass: Annotated[
        float | None,
        Option(
            "--max-top1-mass",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="End with code 4 where the heaviest row holds more of the mass, such as 0.2.",
            rich_help_panel=OUTPUT,
        ),
    ] = None


def finish(chosen: Gates, facts: Mapping[str, Any], surface: "Surface", **told: Any) -> None:
    """End a command that has shown a report: well, or with code 4.

    With ``--json`` the one object tells of the gate beside all else that it tells.

    Args:
        chosen: The gates.
        facts: From `trajweight.analysis.report.report_facts`.
        surface: Where to speak.
        **told: See `Surface.envelope`.

    Raises:
        GateError: If a gate does not hold.
    """
    broken = broken_gates(chosen, facts)
    if not broken:
        surface.finish(**told)
        return
    error = GateError(
        " ".join(broken),
        hint="A higher --target-ess keeps the weights flatter; `report` shows who holds the mass.",
    )
    if not surface.as_json:
        raise error
    gate = {"code": error.code, "message": error.message, "hint": error.hint}
    surface.emit(surface.envelope("error", **told, **gate, exit_code=error.exit_code))
    raise typer.Exit(error.exit_code)


def broken_gates(chosen: Gates, facts: Mapping[str, Any]) -> list[str]:
    """A sentence for every gate that does not hold, with the value found.

    Without rows, or without any mass, neither holds: there is nothing to train on.
    """
    share = facts["weights"]["overall"]["ess_fraction"]
    heaviest = facts["concentration"]["top_1"]
    found = []
    if chosen.fail_under_ess is not None and share < chosen.fail_under_ess:
        found.append(f"ESS/n is {share:.4g}, below --fail-under-ess {chosen.fail_under_ess:g}.")
    if chosen.max_top1_mass is not None:
        if heaviest is None:
            found.append("No synthetic training row has any weight, so --max-top1-mass fails.")
        elif heaviest > chosen.max_top1_mass:
            found.append(
                f"The heaviest row holds {heaviest:.4g} of the mass, above --max-top1-mass "
                f"{chosen.max_top1_mass:g}."
            )
    return found

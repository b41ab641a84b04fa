"""``trajweight verify-export``: whether an export's weights take effect, told by a gradient."""

# No deferred annotations: typer reads those of `VerifyExport` when the program starts.
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from trajweight.cli._options import Common
from trajweight.cli._stages import watching
from trajweight.errors import GateError, MissingError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.verification import Verdict


@dataclass(frozen=True, kw_only=True)
class VerifyExport(Common):
    """The options of ``verify-export``.

    Attributes:
        path: The export.
        to: Its target.
        python: The interpreter that has the trainer.
    """

    path: Annotated[
        Path, Argument(metavar="PATH", help="Folder that export-weights wrote for a trainer.")
    ]
    to: Annotated[
        str | None,
        Option("--to", metavar="TARGET", help="Its target; default: what the export says."),
    ] = None
    python: Annotated[
        Path | None,
        Option(
            "--python",
            metavar="FILE",
            help="The python of the environment in which the trainer is installed; default: the "
            "one that runs trajweight.",
        ),
    ] = None


def verify_export(chosen: VerifyExport, surface: "Surface", _typed: "Typed") -> None:
    """Let a trainer say what an export's weights do to a gradient.

    The trainer's own code reads a few rows that are exported the same way, alike but for their
    weight, on a tiny random model. PASS: each counts what it should. IGNORED: all count alike.
    CANCELLED: weights vanish with one row in a micro-batch. BIASED: they act otherwise. SKIPPED:
    nothing was measured. Ends with 0 for PASS, 5 for SKIPPED and 4 for the others.
    """
    with watching(surface, chosen.path) as progress:
        from trajweight import verification

        verdict = verification.verify_export(
            chosen.path, to=chosen.to, python=chosen.python, progress=progress
        )
    for line in _told(verdict):
        surface.print(line)
    if verdict.word == "PASS":
        surface.finish(inputs=[chosen.path], outputs={}, metrics=asdict(verdict))
        return
    message = f"{chosen.path}: {verdict.word}: {verdict.said}"
    if verdict.word == "SKIPPED":
        is_absent = any(each.endswith("not installed") for each in verdict.versions)
        elsewhere = "The README beside the data says how weights act there."
        hint = "Give the --python of an environment that has it." if is_absent else elsewhere
        raise MissingError(message, hint=hint)
    raise GateError(message, hint="The README beside the data names what undoes weights.")


def _told(verdict: "Verdict") -> list[str]:
    """The verdict, and what each row counted."""
    lines = [f"{verdict.word}: {verdict.said}"]
    if verdict.versions:
        lines.append(f"Asked: {', '.join(verdict.versions)}.")
    for measured in verdict.measured:
        pairs = zip(measured.effective, verdict.wanted, strict=True)
        told = ", ".join(f"{found:.3f} for {wanted:.3f}" for found, wanted in pairs)
        lines.append(
            f"Micro-batch {measured.micro_batch}: rows counted {told} "
            f"(unexplained {measured.residual:.1e})."
        )
    return lines

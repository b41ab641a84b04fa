"""``trajweight explain``: why one trajectory weighs what it weighs."""

# No deferred annotations: typer reads those of `Explain` when the program starts.
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from trajweight.cli._console import as_json_text, text_file
from trajweight.cli._options import OUTPUT, Common, RunFolder
from trajweight.cli._output import OutFile, require_free_file, write_text
from trajweight.errors import TrajweightError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.run import Run


@dataclass(frozen=True, kw_only=True)
class Explain(Common):
    """The options of ``explain``.

    Attributes:
        run: The run.
        traj_id: The trajectory.
        turns: Load the model for the alignment by turn.
        neighbours: Rows of either origin to show.
        out: A file to write instead of stdout.
    """

    run: RunFolder
    traj_id: Annotated[
        str,
        Argument(metavar="ID", help="Id of a trajectory, or the beginning that no other id has."),
    ]
    turns: Annotated[
        bool,
        Option(
            "--turns",
            metavar="",
            help="Also show what each assistant turn does to the loss on real validation rows. "
            "Off by default, because it loads the model the run was learned on and takes "
            "gradients of this row and of eight others: seconds for a small model.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    neighbours: Annotated[
        int,
        Option(
            "--neighbours",
            min=1,
            metavar="N",
            show_default=False,
            help="Nearest real and nearest synthetic rows to show, of each N; default 5.",
            rich_help_panel=OUTPUT,
        ),
    ] = 5
    out: OutFile = None


def explain(chosen: Explain, surface: "Surface", _typed: "Typed") -> None:
    """Tell why one trajectory weighs what it weighs.

    Its weight and rank, what its features add to the head's score, which real and synthetic rows
    are most like it and what those weigh; with --turns, which of its turns help.
    """
    from trajweight.analysis.why import explain as facts_of
    from trajweight.analysis.why import trained_run
    from trajweight.cli._explain_view import render
    from trajweight.run import load_run

    run = load_run(chosen.run)
    runs = [each for each in (run, trained_run(run)) if each is not None]
    if chosen.out is not None:
        require_free_file(chosen.out, force=chosen.force, runs=runs)
    facts = facts_of(run, chosen.traj_id, count=chosen.neighbours, seed=chosen.seed or 0)
    if chosen.turns:
        facts["turns"] = _turn_facts(run, facts["traj_id"], surface)
    standing = facts["standing"] or {}
    told: dict[str, Any] = {
        "inputs": [chosen.run],
        "outputs": {} if chosen.out is None else {"explanation": chosen.out},
        "metrics": {
            "weight": facts["weight"],
            "score": facts["score"],
            "rank": standing.get("rank"),
            "percentile": standing.get("percentile"),
        },
        "explanation": facts,
    }
    if chosen.out is not None:
        written, stream = text_file()
        render(facts, written)
        whole = as_json_text(surface.envelope("ok", **told))
        text = whole if surface.as_json else stream.getvalue()
        write_text(chosen.out, text, force=chosen.force, runs=runs)
        surface.print(str(chosen.out))
    elif not surface.as_json:
        render(facts, surface.out)
    surface.finish(**told)


def _turn_facts(run: "Run", name: str, surface: "Surface") -> dict[str, Any]:
    """The alignment by turn, or why there is none; all else is shown whatever happens here."""
    from trajweight.analysis.why import others_than, trained_run, turn_facts
    from trajweight.cli._making import load_library
    from trajweight.cli._stages import Stages
    from trajweight.run import DIRECTION

    trained = trained_run(run)
    if trained is None or not trained.has(DIRECTION):
        why = (
            "The run that learned the head is gone, or was made again with another head."
            if trained is None
            else "The run has no direction.safetensors: no head was learned, or an older "
            "trajweight learned it. Run it again to have the alignment by turn."
        )
        surface.warn(why)
        return {"missing": why}
    progress = Stages(surface)
    try:
        load_library(progress, "trajweight.turnwise")
        from trajweight.turnwise import align_turns

        found = align_turns(run, trained, [name, *others_than(run, name)], progress=progress)
    except TrajweightError as error:
        why = f"The model could not be asked: {error.message.rstrip('.')}."
        surface.warn(why)
        return {"missing": why}
    finally:
        progress.stop()
    turns = [(one.turn, one.n_tokens, one.d) for one in found.turns]
    return turn_facts(run, name, d=found.d, turns=turns, others=found.others)

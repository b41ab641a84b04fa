"""``trajweight score``: weights for a file of trajectories, and the report on them."""

# No deferred annotations: typer reads those of `Score` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typer import Option

from trajweight.cli._console import visible
from trajweight.cli._gates import Gates, finish
from trajweight.cli._making import go_on, load_library, metrics_of
from trajweight.cli._options import DATA, Learning
from trajweight.cli._settings import print_config, resolve, resume_folder, run_folder
from trajweight.cli._stages import watching
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.config import RunConfig
    from trajweight.progress import Progress
    from trajweight.run import Run

#: What a trained head brings with it or has no use for.
_LEARNED_ONLY: Final = (
    *("model", "adapter_layers", "max_tokens", "vocabulary"),
    *("batch_size", "max_steps", "ess_penalty", "target_ess", "head", "ensemble", "estimator"),
    *("objective", "prior", "retrain", "track"),
)


@dataclass(frozen=True, kw_only=True)
class Score(Learning, Gates):
    """The options of ``score``.

    Attributes:
        run: A finished run whose head to apply.
    """

    run: Annotated[
        Path | None,
        Option(
            "--run",
            metavar="RUN",
            help="Apply the head of this run, by forward passes alone; without it, learn one.",
            rich_help_panel=DATA,
        ),
    ] = None


def score(chosen: Score, surface: "Surface", typed: "Typed") -> None:
    """Weigh every synthetic trajectory and print the report: the whole job in one command.

    Without --run a head is learned from the same files; with it that run's head is applied.
    """
    unfinished = resume_folder(chosen, typed)
    if unfinished is not None:
        run, config = go_on(unfinished, surface, typed)
    else:
        config = resolve(chosen)
        if chosen.print_config:
            print_config(config, surface)
            return
        _refuse_learning_flags(chosen, typed)
        out = run_folder(chosen, config.data)
        with watching(surface, out, can_resume=chosen.run is None) as progress:
            run = _scored(chosen, config, out, progress, typed)
    from trajweight.analysis.report import report_facts
    from trajweight.cli._report_view import render

    facts = report_facts(run)
    if not surface.as_json:
        render(facts, surface.out)
        surface.print()
    surface.adopt(facts["warnings"])
    surface.print(f"Run: {run.folder}")
    surface.say(f"Next: trajweight export-weights {visible(str(run.folder))} --out train.jsonl")
    finish(
        chosen,
        facts,
        surface,
        inputs=(*config.data.paths, *config.data.validation_paths),
        outputs={"run": run.folder},
        metrics=metrics_of(facts),
        report=facts,
    )


def _scored(
    chosen: Score, config: "RunConfig", out: Path, progress: "Progress", typed: "Typed"
) -> "Run":
    """The run, learned or made with a trained head."""
    load_library(progress)
    from trajweight import pipeline
    from trajweight.run import load_run

    force, argv = chosen.force, typed.argv
    if chosen.run is None:
        return pipeline.curate(
            config, out, force=force, progress=progress, argv=argv, interruption=typed.interruption
        )
    trained = load_run(chosen.run)
    return pipeline.score_with(trained, config, out, force=force, progress=progress, argv=argv)


def _refuse_learning_flags(chosen: Score, typed: "Typed") -> None:
    """A flag that would be ignored is an error, not a surprise."""
    idle = [name for name in _LEARNED_ONLY if name in typed.flags]
    if chosen.run is not None and idle:
        flag = f"--{idle[0].replace('_', '-')}"
        message = f"{flag} has no use with --run: the trained run decides it."
        raise ConfigError(message, hint=f"Leave out {flag}, or leave out --run to learn anew.")

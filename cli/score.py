"""``trajweight score``: weights for a file of trajectories, and the report on them."""

# No deferred annotations: typer reads those of `Score` when the program starts.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typer import Option

from trajweight.cli._console import visible
from trajweight.cli._gates import Gates, finish
from trajweight.cli._making import go_on, load_library, metrics_of
from trajweight.cli._options import DATA, LEARNING, Learning
from trajweight.cli._settings import print_config, resolve, resume_folder, run_folder
from trajweight.cli._stages import watching
from trajweight.config import COMPARE, LEARNED
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.config import RunConfig
    from trajweight.progress import Progress
    from trajweight.run import Run

#: Methods that the help names; `trajweight.scorers` is too much to import for it.
_SOME: Final = ("dsir", "classifier", "shorter", "base-nll-low")
#: What a method needs, in a word.
_NEEDS: Final = {"rows": "rows", "model": "a model", "training": "training"}
#: Settings of the model, and of trainings on it.
_MODEL: Final = ("model", "device", "dtype", "adapter_layers", "max_tokens", "vocabulary")
_TRAINING: Final = ("batch_size", "max_steps", "ess_penalty")
#: Settings of learned weights that no other method has.
_HEAD: Final = ("head", "ensemble", "estimator", "objective", "prior", "retrain", "track")
#: What a trained head brings with it or has no use for.
_WITH_RUN: Final = (
    *(name for name in _MODEL if name not in ("device", "dtype")),
    *(*_TRAINING, "target_ess", *_HEAD, "method"),
)
#: By what a method needs, settings that say nothing to it.
_IDLE: Final = {
    "rows": (*_MODEL, *_TRAINING, *_HEAD),
    "model": (*_TRAINING, *_HEAD),
    "training": _HEAD,
}


@dataclass(frozen=True, kw_only=True)
class Score(Learning, Gates):
    """The options of ``score``.

    Attributes:
        run: A finished run whose head to apply.
        method: What gives the weights.
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
    method: Annotated[
        str | None,
        Option(
            "--method",
            envvar="TRAJWEIGHT_METHOD",
            show_envvar=False,
            metavar="NAME",
            help="What gives the weights: learned (the default); another method, which needs no "
            "learning at two levels, such as "
            f"{', '.join(_SOME)} (--method list shows all); or compare: all of them beside the "
            "learned ones, and dev chooses.",
            rich_help_panel=LEARNING,
        ),
    ] = None


def score(chosen: Score, surface: "Surface", typed: "Typed") -> None:
    """Weigh every synthetic trajectory and print the report: the whole job in one command.

    Without --run a head is learned from the same files; with it that run's head is applied.
    """
    if chosen.method == "list":
        _list_methods(surface)
        return
    unfinished = resume_folder(chosen, typed)
    if unfinished is not None:
        run, config = go_on(unfinished, surface, typed)
    else:
        config = resolve(chosen)
        if chosen.print_config:
            print_config(config, surface)
            return
        _refuse_idle_flags(chosen, config.method, typed)
        out = run_folder(chosen, config.data)
        learns = chosen.run is None and config.method in (LEARNED, COMPARE)
        with watching(surface, out, can_resume=learns) as progress:
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


def _list_methods(surface: "Surface") -> None:
    """Every method by name, with what it needs and what it says."""
    from trajweight.scorers import names, scorer

    methods = [scorer(name) for name in names()]
    for each in methods:
        surface.print(f"{each.name:24} {_NEEDS[each.needs]:9} {each.sentence}")
    found = {each.name: {"needs": each.needs, "sentence": each.sentence} for each in methods}
    surface.finish(methods=found)


def _refuse_idle_flags(chosen: Score, method: str, typed: "Typed") -> None:
    """A flag that would be ignored is an error, not a surprise."""
    if chosen.run is not None:
        idle, why, other = _WITH_RUN, "with --run: the trained run decides it", "leave out --run"
    elif method not in (LEARNED, COMPARE):
        from trajweight.scorers import scorer

        idle = _IDLE[scorer(method).needs]
        why, other = f"with --method {method}", "choose another method"
    else:
        return
    if given := [name for name in idle if name in typed.flags]:
        flag = f"--{given[0].replace('_', '-')}"
        message = f"{flag} has no use {why}."
        raise ConfigError(message, hint=f"Leave out {flag}, or {other}.")

"""What the commands that make a run have in common: the library's start, the run's last word."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from trajweight.cli._console import visible
from trajweight.cli._stages import watching

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.config import RunConfig
    from trajweight.progress import Progress
    from trajweight.run import Run

_LEARNING: Final = (
    "selected",
    "outer_steps",
    "base_outer_loss",
    "uniform_outer_loss",
    "weighted_outer_loss",
    "uniform_dev_loss",
    "weighted_dev_loss",
    "dev_gain",
    "dev_gain_se",
)


def load_library(progress: Progress, module: str = "trajweight.pipeline") -> None:
    """Import what a command needs as a stage of its own: it can take several seconds."""
    progress.start("loading libraries")
    importlib.import_module(module)
    progress.finish()


def go_on(folder: Path, surface: Surface, typed: Typed) -> tuple[Run, RunConfig]:
    """Go on with an interrupted run; a finished one is given back as it is.

    Returns:
        The run and the settings it was begun with.
    """
    from trajweight.run import load_run

    run = load_run(folder)
    is_finished = run.manifest().get("status") == "finished"
    with watching(surface, folder, can_resume=True) as progress:
        load_library(progress)
        from trajweight import job, pipeline

        config = job.settings_of(run)
        run = pipeline.resume(run, progress=progress, interruption=typed.interruption)
    if is_finished:
        surface.say(f"{visible(str(folder))} is finished already; nothing was done")
    return run, config


def metrics_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers of a report that a script asks for first; one not known is None.

    Args:
        facts: From `trajweight.analysis.report.report_facts`.
    """
    read, whole = facts["read"], facts["weights"]["overall"]
    return {
        **{name: read[name] for name in ("read", "kept", "rejected")},
        "n_synthetic": whole["n"],
        "ess": whole["ess"],
        "ess_fraction": whole["ess_fraction"],
        **{name: facts["learning"].get(name) for name in _LEARNING},
    }


def tell_run(
    run: Run,
    config: RunConfig,
    surface: Surface,
    *,
    metrics: Mapping[str, Any],
) -> None:
    """End a command: the run's folder as the last line of the result, or the JSON object."""
    surface.print(f"Run: {run.folder}")
    surface.finish(
        inputs=(*config.data.paths, *config.data.validation_paths),
        outputs={"run": run.folder},
        metrics=metrics,
    )

"""``trajweight train-bilevel``: learn the reweighting head and keep it in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.cli._console import visible
from trajweight.cli._making import go_on, load_library, metrics_of, tell_run
from trajweight.cli._settings import print_config, resolve, resume_folder, run_folder
from trajweight.cli._stages import watching
from trajweight.config import COMPARE, LEARNED
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.cli._options import Learning


def train_bilevel(chosen: Learning, surface: Surface, typed: Typed) -> None:
    """Learn weights and a reweighting head from real and synthetic trajectories.

    The run it leaves can be exported, reported, and applied to new files with score --run.
    """
    unfinished = resume_folder(chosen, typed)
    if unfinished is not None:
        run, config = go_on(unfinished, surface, typed)
    else:
        config = resolve(chosen)
        if chosen.print_config:
            print_config(config, surface)
            return
        if config.method not in (LEARNED, COMPARE):
            message = f"the settings say method = {config.method!r}, which learns nothing"
            raise ConfigError(
                message, hint=f"trajweight score --method {config.method} weighs by it."
            )
        out = run_folder(chosen, config.data)
        with watching(surface, out, can_resume=True) as progress:
            load_library(progress)
            from trajweight import pipeline

            run = pipeline.curate(
                config,
                out,
                force=chosen.force,
                progress=progress,
                argv=typed.argv,
                interruption=typed.interruption,
            )
    from trajweight.analysis.report import report_facts

    facts = report_facts(run)
    surface.print(facts["headline"])
    for text in facts["warnings"]:
        surface.warn(text)
    tell_run(run, config, surface, metrics=metrics_of(facts))
    if facts["learning"].get("selected") == "head":
        surface.say(f"Next: trajweight score NEW.jsonl --run {visible(str(run.folder))}")

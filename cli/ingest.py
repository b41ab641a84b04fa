"""``trajweight ingest``: read trajectories into a folder and account for every row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.cli._making import load_library, tell_run
from trajweight.cli._settings import print_config, resolve, run_folder
from trajweight.cli._stages import watching

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.cli._options import Data


def ingest(chosen: Data, surface: Surface, typed: Typed) -> None:
    """Read trajectories into a folder; rows that cannot be used are kept apart.

    No model is loaded and nothing is learned. Rows read are rows kept plus rows rejected.
    """
    config = resolve(chosen)
    if chosen.print_config:
        print_config(config, surface)
        return
    out = run_folder(chosen, config.data)
    with watching(surface, out) as progress:
        load_library(progress, "trajweight.job")
        from trajweight import job

        run = job.ingest(config.data, out, force=chosen.force, progress=progress, argv=typed.argv)
    counts = run.manifest()["counts"]
    surface.print(
        f"{counts['read']} rows read = {counts['kept']} kept + {counts['rejected']} rejected"
    )
    if counts["rejected"]:
        surface.print(f"Rejected rows, with line and reason: {run.folder / 'rejected.jsonl'}")
    tell_run(run, config, surface, metrics=counts)

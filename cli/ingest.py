"""``trajweight ingest``: read trajectories into a folder and account for every row."""

# No deferred annotations: typer reads those of `Ingest` when the program starts.
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from typer import Option

from trajweight.cli._making import load_library, tell_run
from trajweight.cli._options import DATA, Data
from trajweight.cli._settings import print_config, resolve, run_folder
from trajweight.cli._stages import watching
from trajweight.errors import ConfigError
from trajweight.workers import cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface


#: Options that mean something with ``--to``.
_BESIDE_TO: Final = {"to", "paths", "out", "force", "as_json", "quiet", "debug", "seed"}
#: Pairs of sources that are shown.
_PAIRS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Ingest(Data):
    """The options of ``ingest``.

    Attributes:
        jobs: Processes that read at once.
        dry_run: Read and tell, and write nothing.
        to: Give back what a run was made from.
    """

    jobs: Annotated[
        int | None,
        Option(
            "--jobs",
            min=1,
            metavar="N",
            help="Processes that read at once, where there are several files; default one a core. "
            "The result does not depend on it.",
            rich_help_panel=DATA,
        ),
    ] = None

    dry_run: Annotated[
        bool,
        Option(
            "--dry-run",
            metavar="",
            help="Read and tell, and leave nothing behind.",
            rich_help_panel=DATA,
        ),
    ] = False
    to: Annotated[
        Literal["original"] | None,
        Option(
            "--to",
            help="Of a run, write the files it was made from into the folder --out again, equal as "
            "JSON; PATHS is the run.",
            rich_help_panel=DATA,
        ),
    ] = None


def ingest(chosen: Ingest, surface: "Surface", typed: "Typed") -> None:
    """Read trajectories into a folder; rows that cannot be used are kept apart.

    No model is loaded and nothing is learned. Rows read are rows kept plus rows rejected. What is
    odd about a row that is kept is flagged by a code, counted, and mended only with --repair.
    """
    if chosen.to is not None:
        _give_back(chosen, surface, typed)
        return
    config = resolve(chosen)
    if chosen.print_config:
        print_config(config, surface)
        return
    out = run_folder(chosen, config.data)
    more: dict[str, Any] = {"argv": typed.argv, "jobs": chosen.jobs or cores()}
    with watching(surface, out) as progress:
        load_library(progress, "trajweight.job")
        from trajweight import job

        if chosen.dry_run:
            counts = job.rehearse(config.data, progress=progress, **more)
            _tell(counts, surface)
            surface.print("Nothing was written: this was a dry run.")
            surface.finish(
                inputs=(*config.data.paths, *config.data.validation_paths), metrics=counts
            )
            return
        run = job.ingest(config.data, out, force=chosen.force, progress=progress, **more)
    counts = run.manifest()["counts"]
    _tell(counts, surface)
    if counts["rejected"]:
        surface.print(f"Rejected rows, with line and reason: {run.folder / 'rejected.jsonl'}")
    tell_run(run, config, surface, metrics=counts)


def _tell(counts: "Mapping[str, Any]", surface: "Surface") -> None:
    """Print what was read, in a few lines; the pairs of sources as a table."""
    surface.print(
        f"{counts['read']} rows read = {counts['kept']} kept + {counts['rejected']} rejected"
    )
    for name in ("problems", "repaired"):
        if counts[name]:
            told = ", ".join(f"{code} {n}" for code, n in counts[name].items())
            surface.print(f"{name.capitalize()}, rows by code: {told}")
    found = counts["duplicates"]
    for kind in ("exact", "near"):
        if found[kind]:
            surface.print(f"{kind.capitalize()} copies: {found[kind]}")
            for line in _table(found[f"{kind}_by_source"]):
                surface.print(line)
    if found["removed"]:
        surface.print(f"{found['removed']} of the copies are among the rejected rows")


def _table(pairs: "Sequence[Mapping[str, Any]]") -> list[str]:
    """Which source copies which, how often."""
    shown = [(f"{one['n']}", f"{one['source']} copies {one['copies']}") for one in pairs[:_PAIRS]]
    width = max(len(number) for number, _ in shown)
    lines = [f"  {number:>{width}}  {text}" for number, text in shown]
    rest = sum(int(one["n"]) for one in pairs[_PAIRS:])
    return [*lines, f"  {rest:>{width}}  of other pairs of sources"] if rest else lines


def _give_back(chosen: Ingest, surface: "Surface", typed: "Typed") -> None:
    """Write the files that a run was made from."""
    paths = chosen.paths or []
    if len(paths) != 1:
        message = f"--to original needs one run as PATHS, and got {len(paths)}"
        raise ConfigError(message, hint="Such as: trajweight ingest RUN --to original --out FOLDER")
    if chosen.out is None:
        message = "--to original needs a folder to write to"
        raise ConfigError(message, hint="Give one with --out.")
    idle = sorted(typed.flags - _BESIDE_TO)
    if idle:
        given = f"--{idle[0].replace('_', '-')}"
        message = f"{given} does nothing with --to original"
        raise ConfigError(message, hint=f"Leave out {given}.")
    path = paths[0]
    with watching(surface, chosen.out) as progress:
        load_library(progress, "trajweight.originals")
        from trajweight.originals import write_originals
        from trajweight.run import load_run

        run = load_run(Path(path))
        found = write_originals(run, chosen.out, force=chosen.force, progress=progress)
    for file in found.files:
        surface.print(f"{file.path}: {file.n_records} records of {file.source}")
    for note in found.notes:
        surface.say(note)
    surface.finish(
        inputs=[path],
        outputs={file.source: file.path for file in found.files},
        metrics={
            "files": len(found.files),
            "records": sum(file.n_records for file in found.files),
            "rejected": sum(file.n_rejected for file in found.files),
        },
        files=[asdict(file) for file in found.files],
    )

"""Where an export may stand: never over the run or its input, and over a stranger's files never."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajweight.errors import ConfigError
from trajweight.export.facts import MANIFEST
from trajweight.files import refusals_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from trajweight.run import Run


_DATASET_FILES: Final = ("dataset_info.json", "state.json")
_ANOTHER: Final = "Give another --out."


def require_free(run: Run, out: Path, *, is_folder: bool, force: bool) -> None:
    """Refuse a place that an export must not take.

    Raises:
        ConfigError: If it is part of the run, a file that was read, of the wrong kind, or taken.
    """
    place = Path(os.path.realpath(out))
    if run.owns(out):
        message = f"--out {out} is part of the run itself."
        raise ConfigError(message, hint=_ANOTHER)
    read = {path for piece in run.pieces("trajectories", "origin_path") for path in _only(piece)}
    if place in {Path(os.path.realpath(path)) for path in read}:
        message = f"--out {out} is the file the rows were read from."
        raise ConfigError(message, hint=f"{_ANOTHER} The input is never written over.")
    if is_folder:
        _require_folder(place, out, force=force)
    elif place.is_dir():
        message = f"--out {out} is a folder; this export is one file."
        raise ConfigError(message, hint="Give a file name.")
    elif place.is_file() and not force:  # a pipe or a device is made to be written to
        _refuse_taken(out)


def _only(column: pl.DataFrame) -> list[str]:
    """The different texts of a column."""
    return column.to_series().unique().to_list()


def _require_folder(place: Path, out: Path, *, force: bool) -> None:
    """Only an empty folder or an export of ours may be replaced."""
    if not place.exists():
        return
    if not place.is_dir():
        message = f"--out {out} is a file; this export is a folder."
        raise ConfigError(message, hint=_ANOTHER)
    files = (path.relative_to(place) for path in place.rglob("*") if not path.is_dir())
    entries = sorted(path.as_posix() for path in files)
    if not entries:
        return
    if not force:
        _refuse_taken(out)
    ours = _names_in(place)
    strange = [name for name in entries if name not in ours and not _is_of_dataset(name)]
    if strange:
        message = f"--out {out} holds {strange[0]}, which no export wrote."
        raise ConfigError(message, hint=_ANOTHER)


def _names_in(place: Path) -> set[str]:
    """The files that an export's manifest owns to; none without a manifest of ours."""
    try:
        told = json.loads((place / MANIFEST).read_text("utf-8"))
        files = [each["name"] for each in (*told["data"], *told["files"])]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {MANIFEST, *files}


def _is_of_dataset(name: str) -> bool:
    """Whether a file is of those that `datasets` itself writes, which has no manifest of ours."""
    return name.rpartition("/")[2] in _DATASET_FILES or Path(name).match("data-*.arrow")


def _refuse_taken(out: Path) -> None:
    message = f"--out {out} is already there."
    raise ConfigError(message, hint="--force or another --out")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill beside its place, which it takes when the block ends well, and only then."""
    target = Path(os.path.realpath(out))
    with refusals_told(out):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    with scratch as beside:
        made = Path(beside) / "made"
        made.mkdir()
        yield made
        with refusals_told(out):
            old = Path(beside) / "old"  # gone with the scratch folder
            if target.exists():
                target.rename(old)
            try:
                made.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise

"""Folders that are built once, published whole, and checked against their manifest when read.

A folder is built beside its place and renamed into it, under a lock that other processes wait
for; so a reader sees a whole folder or none. ``manifest.json`` inside lists the size and SHA-256 of
every file.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import platformdirs
from filelock import FileLock, Timeout

from trajweight.errors import DataError, TrajweightError
from trajweight.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.progress import Progress

MANIFEST: Final = "manifest.json"
#: Seconds to wait for another process that builds the same folder.
_PATIENCE_S: Final = 900.0


def cache_root() -> Path:
    """Where built things are kept: ``TRAJWEIGHT_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("TRAJWEIGHT_CACHE")
    return (
        Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("trajweight", False)
    )


def fault_of(folder: Path, facts: dict[str, Any]) -> str:
    """Why a folder is not the whole one that was published; empty when it is.

    Args:
        folder: A folder that ``publish`` may have made.
        facts: What its manifest must say about where it came from.
    """
    if not folder.is_dir():
        return "it is not there"
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
        if manifest["facts"] != facts:
            return f"{MANIFEST} tells of another origin"
        for name, known in manifest["files"].items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if (folder / name).stat().st_size != known["size"]:
                return f"{name} has another size"
            if sha256_of(folder / name) != known["sha256"]:
                return f"{name} has another SHA-256"
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read, or a file it names"
    return ""


def publish(
    folder: Path, build: Callable[[Path], None], *, facts: dict[str, Any], progress: Progress
) -> None:
    """Make sure a folder is there and whole, building it when it is not.

    Args:
        folder: Where it shall stand.
        build: Fills the empty folder it is given; called by one process at a time.
        facts: Where the content comes from; a published folder with other facts is built again.
        progress: Told about damage and waiting.

    Raises:
        TrajweightError: If the cache cannot be written; whatever ``build`` raises passes through.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder, progress)
    except OSError as error:
        why = f"the cache folder {folder.parent} cannot be written: {error.strerror or error}"
        raise TrajweightError(why, hint="Set TRAJWEIGHT_CACHE to a writable folder.") from error
    try:
        if fault_of(folder, facts):  # another process may have built it while this one waited
            _build(folder, build, facts)
    finally:
        lock.release()


def _acquire(folder: Path, progress: Progress) -> FileLock:
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        progress.say(f"another process is preparing {folder.name}; waiting for it")
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout as error:
            why = f"{folder}.lock has been held by another process for {_PATIENCE_S:.0f} s"
            raise TrajweightError(why, hint="Stop that process and try again.") from error
    return lock


def _build(folder: Path, build: Callable[[Path], None], facts: dict[str, Any]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was stopped
        shutil.rmtree(leftover, ignore_errors=True)
    building = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        build(building)
        files = {
            path.relative_to(building).as_posix(): {
                "size": path.stat().st_size,
                "sha256": sha256_of(path),
            }
            for path in sorted(building.rglob("*"))
            if path.is_file()
        }
        manifest = {"schema_version": 1, "facts": facts, "files": files}
        (building / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        if folder.exists():
            folder.rename(folder.parent / f".{folder.name}.damaged")
        building.rename(folder)
    finally:
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)

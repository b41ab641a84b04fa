"""One process at a time works in a run's folder: a lock of the system, gone with its process."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from trajweight.errors import ConfigError
from trajweight.files import refusals_told

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = ".trajweight.lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep a folder to this process; it is made where it is not there, and goes if nothing came in.

    What is no folder is left to whoever wants to write there to refuse.

    Raises:
        ConfigError: If another process works in it.
        TrajweightError: If the system lets nobody write there.
    """
    if folder.exists() and not folder.is_dir():
        yield
        return
    place = Path(os.path.realpath(folder))
    is_new = not place.exists()
    lock = FileLock(place / LOCK, timeout=0)
    with refusals_told(folder):
        place.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            message = f"another process is at work in {folder}."
            hint = "Let it end, or end it; then go on with the run by --resume."
            raise ConfigError(message, hint=hint) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (place / LOCK).unlink(missing_ok=True)
        lock.release()
        if is_new:  # what failed before it wrote anything leaves no folder behind
            with suppress(OSError):
                place.rmdir()

"""One process at a time works in a run's folder: a lock of the system, gone with its process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from trajweight.errors import ConfigError
from trajweight.files import refusals_told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK: Final = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep a folder to this process; it is made where it is not there.

    What is no folder is left to whoever wants to write there to refuse.

    Raises:
        ConfigError: If another process works in it.
        TrajweightError: If the system lets nobody write there.
    """
    if folder.exists() and not folder.is_dir():
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0)
    with refusals_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            message = f"another process is at work in {folder}."
            hint = "Let it end, or end it; then go on with the run by --resume."
            raise ConfigError(message, hint=hint) from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()

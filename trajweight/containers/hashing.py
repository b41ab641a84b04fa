"""What the manifest says of an input whose bytes are not read from first to last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajweight.errors import DataError
from trajweight.files import sha256_of

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from trajweight.records import Record


def facts_of(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file, read for nothing else.

    Raises:
        DataError: If the file cannot be read.
    """
    digest = sha256_of(path)
    return {**size_of(path), "sha256": digest}


def size_of(path: Path) -> dict[str, Any]:
    """What is known of a file that was not read: all but its hash.

    Raises:
        DataError: If the file is gone.
    """
    return {"path": str(path), "bytes": _stat(path).st_size, "sha256": None}


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error


def hashed_after(
    records: Iterator[Record], path: Path
) -> Generator[Record, None, dict[str, Any] | None]:
    """The records of a file, which is hashed when the last was taken.

    Returns:
        Name, size and SHA-256; None where somebody wrote to the file in the meantime.

    Raises:
        DataError: If the file cannot be read.
    """
    before = _stat(path)
    yield from records
    facts = facts_of(path)
    after = _stat(path)
    is_same = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    return facts if is_same else None

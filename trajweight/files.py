"""Files are written whole beside their target and then renamed, so a reader never sees half.

An interrupted or failing writer leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trajweight.errors import DataError, TrajweightError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: Ending of a file that is still being written; a run may sweep such files away.
PART_SUFFIX = ".part"


def write_atomically(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file whole, or not at all.

    The bytes go to a hidden file in the same folder, reach the disk, and take the place of
    ``path`` by a rename. Missing folders are made. A symbolic link is written through. What is
    there and is no regular file (``/dev/stdout``, a pipe) is written to directly.

    Args:
        path: Where the file shall stand.
        content: The bytes, or a function that writes them to an open binary file.

    Raises:
        TrajweightError: If the system refuses; whatever ``content`` raises passes through.
    """
    target = Path(os.path.realpath(path))
    with refusals_told(path):
        if target.is_dir():
            message = f"it is a folder: {str(path)!r}"
            raise IsADirectoryError(message)
        if path.exists() and not path.is_file():
            # A pipe has no path of its own to resolve to; only the name given leads there.
            with path.open("wb") as stream:
                _fill(stream, content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(target) as stream:
            _fill(stream, content)


@contextlib.contextmanager
def refusals_told(path: Path) -> Iterator[None]:
    """Say what is written in this block where the system refuses to write it.

    Raises:
        TrajweightError: If it does.
    """
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written: {error}"
        hint = "Give a path in a folder you may write to, with room on its disk."
        raise TrajweightError(message, hint=hint) from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines, one at a time; ``.gz`` at the end of the name compresses.

    The same rows give the same bytes, compressed too: the gzip header names no time and no file.

    Returns:
        How many lines were written.
    """
    count = 0

    def lines(stream: IO[bytes] | gzip.GzipFile) -> None:
        nonlocal count
        for row in rows:
            stream.write(json_line(row))
            count += 1

    def zipped(stream: IO[bytes]) -> None:
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
            lines(packed)

    write_atomically(path, zipped if path.suffix == ".gz" else lines)
    return count


def json_line(row: Mapping[str, Any]) -> bytes:
    r"""One row as UTF-8 JSON with a line end; nothing the row holds is changed.

    The standard library writes it, not orjson, because rows are the user's: NaN, integers beyond
    64 bits and lone surrogates were in the file that was read and must come out again.

    Example:
        >>> json_line({"id": "a", "weight": 1.5})
        b'{"id":"a","weight":1.5}\n'
    """
    try:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, only the escape it came as
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error


def _fill(stream: IO[bytes], content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write the bytes, or let the function write them."""
    if isinstance(content, bytes):
        stream.write(content)
    else:
        content(stream)


@contextlib.contextmanager
def _part_of(target: Path) -> Iterator[IO[bytes]]:
    """An open file beside ``target`` that takes its place if the block ends well."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    # "x" and not tempfile: the file then has the permissions the user's umask gives.
    with part.open("xb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:  # Ctrl-C too must leave no part behind
            part.unlink(missing_ok=True)
            raise

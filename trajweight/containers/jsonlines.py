"""JSON lines, one value at a time, compressed or not.

What a file is, is seen from its first bytes and never from its name. The lines that cannot
be text are handed on with the fault said, so that the reader loses none of them.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from trajweight.errors import DataError
from trajweight.jsontext import NotJsonError, decode_leniently
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_OTHER_CONTAINERS: Final[dict[bytes, str]] = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def check_readable(path: Path) -> None:
    """See before any work that a path is a file.

    Raises:
        DataError: If it is missing or a folder.
    """
    if path.is_dir():
        msg = "is a folder; files are read, one JSON object a line"
        raise DataError(msg, path=path, hint=f"Pass the files in it: {path / '*.jsonl'}")
    if not path.exists():
        msg = "no such file"
        raise DataError(msg, path=path, hint="Check the path; it is taken from the current folder.")


def records(path: Path) -> Iterator[Record]:
    """The values of a JSONL file, plain or gzip, one a line that is not blank.

    Windows line ends and a byte-order mark are taken off. When a gzip stream breaks, the last
    line holds what was read of it and says so.

    Raises:
        DataError: If the file is no JSON lines at all (a JSON array, Parquet, ...), or cannot
            be opened.
    """
    check_readable(path)
    try:
        with path.open("rb") as raw:
            is_gzip = raw.peek(len(_GZIP)).startswith(_GZIP)
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_gzip else raw
            yield from _text_lines(path, stream)
    except OSError as error:
        msg = f"cannot be read: {error.strerror or error}"
        raise DataError(msg, path=path) from error


def _text_lines(path: Path, stream: BinaryIO) -> Iterator[Record]:
    is_first = True
    for number, (raw, fault) in enumerate(_byte_lines(stream), start=1):
        data = raw.removeprefix(_BOM) if number == 1 else raw
        data = data.removesuffix(b"\r")
        if not data.strip() and not fault:
            continue
        if is_first:
            _refuse_other_containers(path, data)
            is_first = False
        yield _record(number, data, fault)


def _record(number: int, data: bytes, fault: str) -> Record:
    if fault:
        said = f"the gzip stream breaks off in this line ({fault}); what follows it is lost"
        return Record(number, raw=data, fault=said)
    try:
        value, non_finite = decode_leniently(data.decode())
    except UnicodeDecodeError as error:
        byte = data[error.start]
        said = f"not UTF-8: byte 0x{byte:02x} at position {error.start + 1}"
        return Record(number, raw=data, fault=said)
    except NotJsonError as error:
        return Record(number, raw=data, fault=str(error))
    return Record(number, value, data, non_finite=non_finite)


def _byte_lines(stream: Any) -> Iterator[tuple[bytes, str]]:
    """Lines without their line feed; only the last may come with a fault of the stream."""
    pending: list[bytes] = []  # parts of one line: a long one is joined once
    fault = ""
    while not fault:
        try:
            chunk = stream.read1(_CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            fault = str(error)
            break
        if not chunk:
            break
        first, *others = chunk.split(b"\n")
        pending.append(first)
        for part in others:
            yield b"".join(pending), ""
            pending = [part]
    tail = b"".join(pending)
    if tail or fault:
        yield tail, fault


def _refuse_other_containers(path: Path, data: bytes) -> None:
    for magic, name in _OTHER_CONTAINERS.items():
        if data.startswith(magic):
            msg = f"is {name}; JSON lines are read, plain or gzip, in UTF-8"
            raise DataError(msg, path=path, hint="Write it as JSONL first, one JSON object a line.")
    if data.strip() == b"{":
        msg = "begins with a lone '{': JSON spread over many lines, not one object a line"
        hint = f"Convert it, for example: jq -c . {path} > {path.with_suffix('.jsonl').name}"
        raise DataError(msg, path=path, line=1, hint=hint)
    if data.lstrip().startswith(b"["):
        msg = "begins with '[': a JSON array, not one JSON object a line"
        hint = f"Convert it, for example: jq -c '.[]' {path} > {path.with_suffix('.jsonl').name}"
        raise DataError(msg, path=path, line=1, hint=hint)

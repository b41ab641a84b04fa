"""What a file is, seen from its first bytes and never from its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trajweight.containers.bytestream import packing_of
from trajweight.containers.structure import Structure
from trajweight.errors import DataError
from trajweight.jsontext import NotJsonError, decode_leniently

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes that are looked at.
HEAD: Final = 1 << 16
BOM: Final = b"\xef\xbb\xbf"

JSON_LINES: Final = "JSON lines"
JSON_ARRAY: Final = "JSON array"
JSON_DOCUMENT: Final = "JSON document"
PARQUET: Final = "Parquet"
ARROW_FILE: Final = "Arrow file"
ARROW_STREAM: Final = "Arrow stream"
ZIP: Final = "zip archive"

_TABLES: Final[dict[bytes, str]] = {
    b"PAR1": PARQUET,
    b"ARROW1\x00\x00": ARROW_FILE,
    b"\xff\xff\xff\xff": ARROW_STREAM,
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": ZIP,  # an empty one
}
#: What is known and not read, with what to do about it.
_REFUSED: Final[dict[bytes, tuple[str, str]]] = {
    **dict.fromkeys(
        (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"),
        ("UTF-16 or UTF-32 text", "Write it in UTF-8: iconv -f UTF-16 -t UTF-8 {path} > new.jsonl"),
    ),
    b"PARE": ("an encrypted Parquet file", "Write it without encryption."),
    b"FEA1": ("a Feather file of version 1", "Write it again with a newer pyarrow."),
    b"SQLite format 3\x00": ("an SQLite database", "Export its rows as JSONL."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it, and pass the files in it."),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "Export its rows as JSONL."),
    b"Obj\x01": ("an Avro file", "Export its rows as JSONL or Parquet."),
    b"ORC": ("an ORC file", "Export its rows as JSONL or Parquet."),
    b"\x04\x22\x4d\x18": ("an lz4 file", "Unpack it first: lz4 -d {path}"),
    b"%PDF": ("a PDF file", "Pass files of trajectories."),
    b"\x80\x04\x95": ("a Python pickle", "Pickles can run code, so none is read; write JSONL."),
}
#: Lines after a first one that is no value of its own, by which documents are told from lines.
_LINES_LOOKED_AT: Final = 16
_TAR_MARK: Final = slice(257, 262)


def container_of(head: bytes, path: Path, *, is_all: bool) -> str:
    """What the text or table of a file is, unpacked.

    Args:
        head: Its first bytes, up to ``HEAD``.
        path: The file, for messages.
        is_all: Whether these are all the bytes there are.

    Raises:
        DataError: If it is of a kind that is known and not read.
    """
    for magic, name in _TABLES.items():
        if name == ZIP and head.startswith(magic):  # a plain one was seen before
            message = "is a zip archive that is packed once more, or comes through a pipe"
            raise DataError(message, path=path, hint="Pass the archive as a plain file.")
        if head.startswith(magic):
            return name
    _refuse_others(head, path)
    text = head.removeprefix(BOM).lstrip()
    if text.startswith(b"["):
        return _array_or_lines(text, is_all=is_all)
    if text.startswith(b"{"):
        return _document_or_lines(text, is_all=is_all)
    return JSON_LINES


def is_zip(path: Path) -> bool:
    """Whether a plain file begins as a zip archive does.

    Raises:
        DataError: If it cannot be opened.
    """
    if not path.is_file():  # from a pipe no byte may be taken only to be looked at
        return False
    try:
        with path.open("rb") as stream:
            return _TABLES.get(stream.read(4)) == ZIP
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error


def _refuse_others(head: bytes, path: Path) -> None:
    for magic, (name, hint) in _REFUSED.items():
        if head.startswith(magic) and not (magic == b"ORC" and head[3:4].isalpha()):
            message = f"is {name}, which is not read"
            raise DataError(message, path=path, hint=hint.format(path=path))
    if head[:2].count(b"\0") == 1:  # without a byte-order mark
        name, hint = _REFUSED[b"\xff\xfe"]
        message = f"is {name}, which is not read"
        raise DataError(message, path=path, hint=hint.format(path=path))
    if head[_TAR_MARK] == b"ustar":
        message = "is a tar archive, which is not read"
        raise DataError(message, path=path, hint="Unpack it, and pass the files in it.")
    if name := packing_of(head):
        message = f"is packed twice, the second time by {name}"
        raise DataError(message, path=path, hint="Unpack it once, and pass what comes out.")


def _array_or_lines(text: bytes, *, is_all: bool) -> str:
    """One array, unless the first line is a whole one and another line follows."""
    first, end, rest = text.partition(b"\n")
    has_more = bool(rest.strip()) or not is_all
    return JSON_LINES if end and has_more and _is_value(first) else JSON_ARRAY


def _document_or_lines(text: bytes, *, is_all: bool) -> str:
    """Lines, unless the first is no whole value and what follows looks like the rest of one."""
    first, *others = text.split(b"\n")
    if not others and not is_all:
        return JSON_LINES  # or a document on one line, which is a line too
    if _is_value(first):
        return JSON_LINES
    if is_all and _are_values(text):
        return JSON_DOCUMENT
    # A broken first line costs that line alone: most of the others look like lines too.
    looked_at = [line for line in others[:_LINES_LOOKED_AT] if line.strip()]
    if not looked_at:
        return JSON_LINES
    return JSON_LINES if 2 * sum(map(_is_line, looked_at)) > len(looked_at) else JSON_DOCUMENT


def _is_line(line: bytes) -> bool:
    """Whether a line looks like one value of many, be it broken, and not like a part of one."""
    goes_on = line.rstrip().endswith((b",", b"[", b"{"))
    return line.startswith((b"{", b"[")) and (not goes_on or _is_value(line))


def _is_value(text: bytes) -> bool:
    try:
        decode_leniently(text)
    except (NotJsonError, UnicodeDecodeError):
        return False
    return True


def _are_values(text: bytes) -> bool:
    """Whether the text is one value, or several one after another."""
    start = 0
    for mark in Structure().marks(text):
        if mark.depth == 0:
            if not _is_value(text[start : mark.place + 1]):
                return False
            start = mark.place + 1
    return start > 0 and not text[start:].strip()

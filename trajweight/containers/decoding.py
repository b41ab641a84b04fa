"""A piece of a file becomes a record, whatever is wrong with it; no piece outgrows its limit."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from trajweight.jsontext import NotJsonError, decode_leniently
from trajweight.records import Record

#: A longer record becomes one with a fault.
RECORD_LIMIT: Final = 64 << 20
#: The same for a document, which may hold many rows and is read whole.
DOCUMENT_LIMIT: Final = 256 << 20
#: Of a record that is not read, this much is kept to be shown.
SHOWN: Final = 1 << 14
#: So much of what is not UTF-8, which takes a second for a few megabytes to be written as text.
_SPOILT_SHOWN: Final = 1 << 20
#: Looking for keys that stand twice costs as much as reading, so it is done for the first records
#: of a file and then for one in so many.
_FIRST_LOOKED_AT: Final = 32
_LOOKED_AT_EVERY: Final = 256
_SYNTAX: Final = "not JSON"


def record_of(number: int, data: bytes) -> Record:
    """The record that the bytes of one JSON value are."""
    try:
        value, non_finite = decode_leniently(data)
    except UnicodeDecodeError as error:
        byte = data[error.start]
        fault = f"not UTF-8: byte 0x{byte:02x} at position {error.start + 1}"
        if len(data) > _SPOILT_SHOWN:
            fault += f"; its first {_SPOILT_SHOWN:,} bytes are kept here"
        return Record(number, raw=data[:_SPOILT_SHOWN], fault=fault)
    except NotJsonError as error:
        return Record(number, raw=data, fault=str(error))
    is_looked_at = number <= _FIRST_LOOKED_AT or number % _LOOKED_AT_EVERY == 0
    remarks = _remarks_on_keys(data) if is_looked_at else ()
    return Record(number, value, data, non_finite=non_finite, remarks=remarks)


def is_broken(record: Record) -> bool:
    """Whether its text is no JSON at all, so that its end may not be where it seems to be."""
    return record.fault.startswith(_SYNTAX)


def too_long(number: int, beginning: bytes, limit: int) -> Record:
    """The record for a piece that outgrew its limit; only its beginning is kept."""
    fault = f"longer than {limit >> 20} MB, which is the most that is read of one record"
    return Record(number, raw=beginning[:SHOWN], fault=fault)


class Piece:
    """The bytes of one record while they come, chunk by chunk; beyond the limit they are let go.

    Attributes:
        limit: Bytes it may hold.
        size: Bytes that came.
    """

    def __init__(self, limit: int) -> None:
        """Begin with nothing."""
        self.limit = limit
        self.size = 0
        self._parts: list[bytes] = []  # joined once

    @property
    def is_too_long(self) -> bool:
        """Whether more came than it may hold; then only its beginning is kept."""
        return self.size > self.limit

    @property
    def is_blank(self) -> bool:
        """Whether nothing but blanks came."""
        return all(not part or part.isspace() for part in self._parts)

    def add(self, part: bytes) -> None:
        """Take the next bytes."""
        if not self.is_too_long:
            self._parts.append(part)
        self.size += len(part)
        if self.is_too_long and len(self._parts) > 1:
            self._parts = [_beginning(self._parts)]

    def take(self) -> bytes:
        """The bytes, or the beginning of too many; the next piece begins with nothing."""
        data = b"".join(self._parts)
        self.size, self._parts = 0, []
        return data


def _beginning(parts: list[bytes]) -> bytes:
    """What is shown of a long piece, without joining all of it."""
    found = b""
    for part in parts:
        found += part[: SHOWN - len(found)]
        if len(found) == SHOWN:
            break
    return found


def _remarks_on_keys(data: bytes) -> tuple[str, ...]:
    """What to say of keys that stand twice in one object, of which only the last is read."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs) and not found:
            names = Counter(name for name, _ in pairs)
            found.append(names.most_common(1)[0][0])

    try:
        json.loads(data, object_pairs_hook=look)
    except (ValueError, RecursionError):  # what is nested so deeply is not looked at
        return ()
    return tuple(
        f"key {name!r} is given twice in one object; the last one counts" for name in found
    )

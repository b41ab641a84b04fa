"""JSON lines: one value a line that is not blank.

Windows line ends are taken off. The lines that cannot be read are handed on with the fault said, so
that the reader loses none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.containers.bytestream import BrokenOffError
from trajweight.containers.decoding import (
    DOCUMENT_LIMIT,
    RECORD_LIMIT,
    SHOWN,
    Piece,
    record_of,
    too_long,
)
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.containers.bytestream import ByteStream


def records(stream: ByteStream) -> Iterator[Record]:
    """The values of a stream of lines; when it breaks off, the last record says so.

    Raises:
        DataError: If the system cannot read the file.
    """
    number = 0
    # Holds what of a line came with earlier chunks. The first may be a whole document.
    begun = Piece(DOCUMENT_LIMIT)
    try:
        for chunk in stream.chunks():
            first, *whole = chunk.split(b"\n")
            begun.add(first)
            if not whole:
                continue
            last = whole.pop()
            number += 1
            yield from _ended(number, begun)
            begun = Piece(RECORD_LIMIT)
            begun.add(last)
            for data in whole:
                number += 1
                if data and not data.isspace():
                    yield record_of(number, data.removesuffix(b"\r"))
    except BrokenOffError as broken:
        fault = f"{broken} in this line; what follows it is lost"
        yield Record(number + 1, raw=begun.take()[:SHOWN], fault=fault)
    else:
        yield from _ended(number + 1, begun)


def _ended(number: int, line: Piece) -> Iterator[Record]:
    """The record of a line that came in parts, none where it is blank."""
    if line.is_too_long:
        yield too_long(number, line.take(), line.limit)
    elif not line.is_blank:
        yield record_of(number, line.take().removesuffix(b"\r"))

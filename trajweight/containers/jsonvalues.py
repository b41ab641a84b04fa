"""JSON text that is not cut into lines: the elements of arrays, and whole documents.

Both are read value by value. A value that cannot be read is a record with a fault, and the next one
is read; where two in a row are no JSON, the places at which values seem to end can no longer be
trusted, and the rest is one record with a fault.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trajweight.containers.bytestream import BrokenOffError
from trajweight.containers.decoding import (
    DOCUMENT_LIMIT,
    RECORD_LIMIT,
    SHOWN,
    Piece,
    is_broken,
    record_of,
    too_long,
)
from trajweight.containers.structure import Structure
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.containers.bytestream import ByteStream
    from trajweight.containers.structure import Mark


def elements(stream: ByteStream) -> Iterator[Record]:
    """The elements of one JSON array, or of several that follow one another.

    Raises:
        DataError: If the system cannot read the file.
    """
    return _Elements().records(stream)


def documents(stream: ByteStream) -> Iterator[Record]:
    """Values spread over lines, mostly one; several may follow one another.

    Raises:
        DataError: If the system cannot read the file.
    """
    return _Documents().records(stream)


class _Values(ABC):
    """Cuts a stream into values.

    Attributes:
        what: What a value is called.
        limit: Bytes of the longest value.
        keeps_mark: Whether the byte at which a value is cut is its last.
    """

    what: str
    limit: int
    keeps_mark: bool

    def __init__(self) -> None:
        self.structure = Structure(with_commas=not self.keeps_mark)
        self.piece = Piece(self.limit)
        self.number = 0
        self.passed = 0  # bytes of the chunks before
        self.place = 0  # at which the piece begins
        self.was_broken = False
        self.given_up = ""  # why the rest is not read

    def records(self, stream: ByteStream) -> Iterator[Record]:
        try:
            for chunk in stream.chunks():
                yield from self.take(chunk)
        except BrokenOffError as broken:
            self.give_up(f"{broken}; what follows is lost")
        if not self.given_up:
            yield from self.end()
        if self.given_up:
            yield Record(self.number + 1, raw=self.piece.take()[:SHOWN], fault=self.given_up)

    def take(self, chunk: bytes) -> Iterator[Record]:
        """The records that end in the next chunk."""
        start = 0
        for mark in () if self.given_up else self.structure.marks(chunk):
            if not self.is_cut(mark):
                continue
            end = mark.place + self.keeps_mark
            self.piece.add(chunk[start:end])
            start = mark.place + 1
            yield from self.at(mark, chunk[mark.place : start])
            if self.given_up:
                start = end
                break
            self.place = self.passed + start
        self.piece.add(chunk[start:])
        self.passed += len(chunk)

    @abstractmethod
    def is_cut(self, mark: Mark) -> bool:
        """Whether something ends at a mark."""

    @abstractmethod
    def at(self, mark: Mark, byte: bytes) -> Iterator[Record]:
        """The record that ends at a mark, if one does; the piece is what stands before it."""

    @abstractmethod
    def end(self) -> Iterator[Record]:
        """The record that ends with the text, if one does."""

    def value(self) -> Iterator[Record]:
        """The record that the piece is; none where the rest is given up because of it."""
        is_too_long, data = self.piece.is_too_long, self.piece.take()
        if is_too_long:
            record = too_long(self.number + 1, data, self.limit)
        else:
            record = record_of(self.number + 1, data.strip())
        if record.fault:
            place = self.place + len(data) - len(data.lstrip()) + 1
            fault = f"{record.fault} (the {self.what} begins at byte {place:,})"
            record = replace(record, fault=fault)
        is_second = self.was_broken and is_broken(record)
        self.was_broken = is_broken(record)
        if is_second:
            self.piece.add(data)
            self.give_up(f"{record.fault}; nor is the one before it, so the rest is not read")
        else:
            self.number += 1
            yield record

    def give_up(self, why: str) -> None:
        """Read no further value; of the rest the beginning is kept."""
        self.given_up = self.given_up or why
        self.piece.limit = SHOWN


class _Elements(_Values):
    what = "element"
    limit = RECORD_LIMIT
    keeps_mark = False

    def __init__(self) -> None:
        super().__init__()
        self.is_inside = False
        self.is_after_comma = False

    def is_cut(self, mark: Mark) -> bool:  # noqa: ARG002 - every mark ends an element, or all
        return True

    def at(self, mark: Mark, byte: bytes) -> Iterator[Record]:
        if not self.is_inside:
            if byte == b"[" and self.piece.is_blank:
                self.piece.take()
                self.is_inside = True
            else:
                self.give_up(_NO_ARRAY)
            return
        # Only between two brackets may there be nothing.
        if mark.is_comma or self.is_after_comma or not self.piece.is_blank:
            yield from self.value()
        else:
            self.piece.take()
        self.is_inside = self.is_after_comma = mark.is_comma
        if byte == b"}":
            self.give_up("the array is closed by '}', so the rest is not read")

    def end(self) -> Iterator[Record]:
        if self.is_inside:
            if not self.piece.is_blank and not self.piece.is_too_long:
                data = self.piece.take()
                record = record_of(self.number + 1, data.strip())
                if record.fault:
                    self.piece.add(data)
                else:  # cut off after an element, which is whole all the same
                    self.number += 1
                    yield record
            self.give_up("the file ends within the array")
        elif not self.piece.is_blank:
            self.give_up(_NO_ARRAY)


class _Documents(_Values):
    what = "document"
    limit = DOCUMENT_LIMIT
    keeps_mark = True

    def is_cut(self, mark: Mark) -> bool:
        return mark.depth <= 0

    def at(self, mark: Mark, byte: bytes) -> Iterator[Record]:
        if mark.depth < 0:
            self.give_up(f"{byte.decode()!r} closes what was never opened, so the rest is not read")
        else:
            yield from self.value()

    def end(self) -> Iterator[Record]:
        if not self.piece.is_blank:
            yield from self.value()


_NO_ARRAY: Final = "what follows the array is no other array, so it is not read"

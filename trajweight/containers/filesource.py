"""A file, or standard input, as a source: sniffed, read in one pass and hashed on the way."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from trajweight.containers import jsonlines, jsonvalues, sniffing, tables
from trajweight.containers.bytestream import ByteStream
from trajweight.containers.finding import STDIN
from trajweight.containers.hashing import hashed_after, size_of
from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from trajweight.containers.finding import Found
    from trajweight.records import Record

_TEXTS: Final[dict[str, Callable[[ByteStream], Iterator[Record]]]] = {
    sniffing.JSON_LINES: jsonlines.records,
    sniffing.JSON_ARRAY: jsonvalues.elements,
    sniffing.JSON_DOCUMENT: jsonvalues.documents,
}
#: Containers that are read here and there, and so want a plain file.
_PLAIN_ONLY: Final[dict[str, Callable[[Path], Iterator[Record]]]] = {
    sniffing.PARQUET: tables.parquet,
    sniffing.ARROW_FILE: tables.arrow_file,
}


class FileSource:
    """A file, or standard input; what its properties and methods promise stands at `Source`."""

    def __init__(self, found: Found) -> None:
        """Nothing is opened yet."""
        self._found = found
        self._container = self._packing = ""
        # Of what can be read only once: the file, its bytes from the first on, whether it is over.
        self._pipe: BinaryIO | None = None
        self._begun: ByteStream | None = None
        self._is_spent = False
        self._facts: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        """See `Source`."""
        return self._found.path

    @property
    def hints(self) -> Mapping[str, Any]:
        """See `Source`."""
        return self._found.hints

    @property
    def within(self) -> Path | None:
        """See `Source`."""
        return self._found.within

    @property
    def container(self) -> str:
        """See `Source`; the first bytes are read when somebody asks for the first time."""
        if not self._container:
            with self._stream() as stream:
                head = stream.peek(sniffing.HEAD)
                is_all = len(head) < sniffing.HEAD
                self._container = sniffing.container_of(head, self.path, is_all=is_all)
                self._packing = stream.packing
        return self._container

    def records(self) -> Iterator[Record]:
        """See `Source`."""
        self._facts = None
        records = self._records()
        around = self._found.envelope
        return records if around is None else (_wrapped(each, around) for each in records)

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        if self._facts:
            return self._facts
        if self.comes_once:
            return {"path": str(self.path), "bytes": None, "sha256": None}
        return size_of(self.path)

    @property
    def comes_once(self) -> bool:
        """See `Source`."""
        return self.path == STDIN or not self.path.is_file()

    def _records(self) -> Iterator[Record]:
        container = self.container
        if container in _PLAIN_ONLY:
            self._require_plain()
            self._facts = yield from hashed_after(_PLAIN_ONLY[container](self.path), self.path)
        elif container == sniffing.ARROW_STREAM and not (self.comes_once or self._packing):
            rows = tables.mapped_arrow_stream(self.path)
            self._facts = yield from hashed_after(rows, self.path)
        else:
            yield from self._streamed(container)

    def _streamed(self, container: str) -> Iterator[Record]:
        """The records of what is read from the first byte to the last."""
        try:
            with self._stream() as stream:
                if container == sniffing.ARROW_STREAM:
                    yield from tables.arrow_stream(stream, self.path)
                else:
                    has_mark = stream.peek(len(sniffing.BOM)) == sniffing.BOM
                    stream.skip(len(sniffing.BOM) * has_mark)
                    yield from _TEXTS[container](stream)
                stream.drain()
                size, digest = stream.size, stream.sha256
            self._facts = {"path": str(self.path), "bytes": size, "sha256": digest}
        finally:
            self._end_pipe()

    def _require_plain(self) -> None:
        """Refuse what is packed or comes through a pipe.

        Raises:
            DataError: If it is.
        """
        if self._packing:
            message = f"is {self._container} packed by {self._packing}, which is not read"
            hint = "Unpack it first; such files are packed inside already."
            raise DataError(message, path=self.path, hint=hint)
        if self.comes_once:
            message = f"gives {self._container}, which cannot be read from a pipe"
            raise DataError(message, path=self.path, hint="Pass it as a file.")

    @contextmanager
    def _stream(self) -> Iterator[ByteStream]:
        """The bytes from the first on.

        Raises:
            DataError: If they cannot be opened, or were read before and come only once.
        """
        if not self.comes_once:
            with _opened(self.path) as raw:
                yield ByteStream(raw, self.path)
            return
        if self._is_spent:
            message = "was read before, and can be read only once"
            raise DataError(message, path=self.path, hint="Save it to a file, and pass that.")
        if self._begun is None:
            self._pipe = _pipe(self.path)
            self._begun = ByteStream(self._pipe, self.path)
        yield self._begun

    def _end_pipe(self) -> None:
        """Nothing more will come of what can be read only once."""
        self._is_spent = self.comes_once
        self._begun = None
        if self._pipe is not None and self.path != STDIN:
            self._pipe.close()


def _opened(path: Path) -> BinaryIO:
    try:
        return cast("BinaryIO", path.open("rb", buffering=0))
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error


def _pipe(path: Path) -> BinaryIO:
    """Standard input, or what stands in the file system and is no plain file."""
    if path != STDIN:
        return _opened(path)
    if sys.stdin is None:
        message = "there is no standard input"
        raise DataError(message, path=path, hint="Pass a file.")
    return sys.stdin.buffer


def _wrapped(record: Record, around: Mapping[str, Any]) -> Record:
    """The record of one simulation as a document of simulations that has no other."""
    if record.fault:
        return record
    value = {**around, "simulations": [record.value]}
    return replace(record, value=value, place=("simulations", 0))

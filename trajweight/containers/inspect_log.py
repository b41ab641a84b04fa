"""Inspect's ``.eval`` files: a zip archive with an entry a sample, read without unpacking it.

Newer logs are packed by zstd, which Python's `zipfile` knows from 3.14 on; before, it is taught by
Inspect, an optional package. What comes is the JSON that Inspect wrote, every key of it: Inspect's
own model of a sample drops what its version does not know.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from trajweight.containers.decoding import DOCUMENT_LIMIT, record_of, too_long
from trajweight.errors import DataError, MissingError
from trajweight.formats.inspect_ai import LOG
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

CONTAINER: Final = "Inspect log"
_HEADER: Final = "header.json"
_START: Final = "_journal/start.json"
_SAMPLES: Final = "samples/"
_ZSTD: Final = 93
_METHODS: Final = frozenset({ZIP_STORED, ZIP_DEFLATED, _ZSTD})
#: Bytes asked for at once: zstd can make 32,000 of each that is read.
_STEP: Final = 4096
#: No log is packed this well; what is, is made to fill the memory.
_TOO_WELL: Final = 10_000
_HINT: Final = "pip install 'trajweight[inspect]'"


@dataclass(frozen=True, slots=True)
class InspectLog:
    """An ``.eval`` file.

    Attributes:
        path: The file.
        hints: The log without its samples, under ``LOG``.
        container: What it is, in words.
    """

    path: Path
    hints: Mapping[str, Any] = field(default_factory=dict)
    container: str = CONTAINER

    def records(self) -> Iterator[Record]:
        """A record a sample, in the order of the file; the log itself where it has none.

        Raises:
            DataError: If the file cannot be read as a whole.
            MissingError: If it is packed by zstd and nothing here can unpack that.
        """
        with opened(self.path) as archive:
            samples = _samples(archive)
            for number, entry in enumerate(samples, start=1):
                yield _record(archive, entry, number, self.path)
            if not samples:
                yield Record(1, self.hints[LOG])


def holds_log(names: Iterable[str]) -> bool:
    """Whether a zip archive with entries of these names is an Inspect log."""
    return not {_HEADER, _START}.isdisjoint(names)


def open(path: Path) -> InspectLog:
    """The log that a zip archive is.

    Raises:
        DataError: If it is damaged, or no such log.
        MissingError: If it is packed by zstd and nothing here can unpack that.
    """
    with opened(path) as archive:
        names = {entry.filename: entry for entry in archive.infolist()}
        entry = names.get(_HEADER) or names.get(_START)
        if entry is None:
            message = "is a zip archive without header.json: no Inspect log"
            raise DataError(message, path=path, hint="Unpack it, and pass the files in it.")
        header = _record(archive, entry, 1, path)
    if header.fault or not isinstance(header.value, dict):
        message = f"is an Inspect log whose {entry.filename} cannot be read: {header.fault}"
        raise DataError(message, path=path, hint="Write the log again with Inspect.")
    return InspectLog(path, {LOG: header.value})


def opened(path: Path) -> ZipFile:
    """Any zip archive, open.

    Raises:
        DataError: If it cannot be read, is damaged, or made to do harm.
    """
    try:
        archive = ZipFile(path)
    except NotImplementedError as error:
        message = f"is a zip archive of a kind that cannot be read here: {error}"
        raise DataError(message, path=path, hint="Unpack it, and pass the files in it.") from error
    except (BadZipFile, ValueError) as error:
        message = f"is a damaged zip archive: {error}"
        raise DataError(message, path=path, hint="Copy it again from where it was made.") from error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error
    if sum(entry.compress_size for entry in archive.infolist()) > path.stat().st_size:
        archive.close()
        message = "is a zip archive whose entries overlap, as only harmful ones do"
        raise DataError(message, path=path, hint="Do not use it.")
    return archive


def _samples(archive: ZipFile) -> list[ZipInfo]:
    """The entries of samples; of one that was written twice, the last."""
    found = {
        entry.filename: entry
        for entry in archive.infolist()
        if entry.filename.startswith(_SAMPLES) and entry.filename.endswith(".json")
    }
    return list(found.values())


def _record(archive: ZipFile, entry: ZipInfo, number: int, path: Path) -> Record:
    """The value of an entry, or why there is none."""
    name = entry.filename
    if entry.compress_type not in _METHODS:
        return Record(number, fault=f"{name} is packed by method {entry.compress_type}")
    if entry.file_size > DOCUMENT_LIMIT:
        return too_long(number, b"", DOCUMENT_LIMIT)
    if entry.file_size > _TOO_WELL * max(entry.compress_size, 1):
        return Record(number, fault=f"{name} is packed {_TOO_WELL} times smaller, as no log is")
    broken: tuple[type[Exception], ...]
    broken = (BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, *_zstd())
    try:
        return record_of(number, _unpacked(archive, entry, path))
    except broken as error:
        return Record(number, fault=f"{name} cannot be unpacked: {error}")


def _unpacked(archive: ZipFile, entry: ZipInfo, path: Path) -> bytes:
    """The bytes of an entry; never more than the archive says it has."""
    _prepare(entry, path)
    parts = []
    with archive.open(entry) as stream:
        while part := stream.read(_STEP):
            parts.append(part)
    return b"".join(parts)


def _prepare(entry: ZipInfo, path: Path) -> None:
    """Teach `zipfile` what it needs for an entry.

    Raises:
        MissingError: If nothing here can.
    """
    if entry.compress_type != _ZSTD or hasattr(zipfile, "ZIP_ZSTANDARD"):
        return
    message = f"{path}: is packed by zstd, which is read with the package inspect-ai"
    try:
        importlib.import_module("inspect_ai.log")
    except ImportError as error:
        raise MissingError(message, hint=_HINT) from error
    if not hasattr(zipfile, "ZIP_ZSTANDARD"):
        message = f"{message}; the one that is installed does not know it"
        raise MissingError(message, hint="pip install --upgrade 'trajweight[inspect]'")


def _zstd() -> tuple[type[Exception], ...]:
    """What the modules that unpack zstd raise, where one is loaded."""
    loaded = (sys.modules.get(name) for name in ("zstandard", "compression.zstd"))
    return tuple(module.ZstdError for module in loaded if module is not None)

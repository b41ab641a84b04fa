"""The bytes of one file in one pass: counted and hashed as they stand, unpacked on the way.

How a file is packed is seen from its first bytes. A stream that breaks, or that grows as no honest
file does, ends with a `BrokenOffError`: what came before it stands, and memory stays flat.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

#: Bytes that are asked for at once.
CHUNK: Final = 1 << 18
#: A packed stream may grow as it likes up to this many bytes, and then by this factor.
BOMB_BYTES: Final = 64 << 20
BOMB_FACTOR: Final = 1000
#: An xz stream may ask for this much memory; what common tools write needs 65 MB at most.
_XZ_MEMORY: Final = 256 << 20
#: Packed bytes that are taken at once.
_PACKED_CHUNK: Final = 1 << 16
#: What the libraries raise when a packed stream is damaged.
_DAMAGE: Final = (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError)
#: How a packed file begins.
_PACKINGS: Final[dict[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class BrokenOffError(Exception):
    """A stream ends before its end; the message says why."""


class Readable(Protocol):
    """An open file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""


class _Unpacked(Protocol):
    """What gives at most ``size`` bytes, and none at the end."""

    def read1(self, size: int, /) -> bytes:
        """The next bytes, as many as come at once."""


def packing_of(head: bytes) -> str:
    """The name of the packing that a file's first bytes tell; empty for none."""
    # Behind these three letters stands the size of the blocks, and the mark of a block or the end.
    if head.startswith(b"BZh") and not (head[3:4].isdigit() and head[4:5] in (b"1", b"\x17")):
        return ""
    return next((name for magic, name in _PACKINGS.items() if head.startswith(magic)), "")


class ByteStream:
    """What one file holds, unpacked, in one pass.

    Attributes:
        packing: gzip, bzip2, xz, zstd; empty for a plain file.
        size: Bytes of the file, packed as it stands, that were read so far.
    """

    closed = False  # pyarrow asks

    def __init__(self, raw: Readable, path: Path) -> None:
        """Begin at the first byte of an open file, which stays the caller's to close."""
        self._file = _Tally(raw, path)
        self.packing = packing_of(self._file.peek(8))
        self._unpacked: _Unpacked = _UNPACKERS[self.packing](self._file)
        self._ahead = b""
        self._n_unpacked = 0
        self._broken: BrokenOffError | None = None

    @property
    def size(self) -> int:
        """See the class."""
        return self._file.size

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the file as it stands; None unless it was read to its end."""
        return self._file.sha256

    def peek(self, size: int) -> bytes:
        """The next bytes without taking them; fewer where the stream ends or breaks.

        Raises:
            DataError: If the system cannot read the file.
        """
        parts = [self._ahead]
        missing = size - len(self._ahead)
        while missing > 0:
            try:
                part = self._next()
            except BrokenOffError:  # told again, when the bytes before it are taken
                break
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        self._ahead = b"".join(parts)
        return self._ahead[:size]

    def skip(self, size: int) -> None:
        """Leave out bytes that were peeked at."""
        self._ahead = self._ahead[size:]

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces as they come.

        Raises:
            BrokenOffError: If the stream breaks off or grows too much; what came is what there is.
            DataError: If the system cannot read the file.
        """
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            yield ahead
        while chunk := self._next():
            yield chunk

    def read(self, size: int) -> bytes:
        """The next bytes; fewer only at the end.

        Raises:
            BrokenOffError: If the stream broke before the first of them.
            DataError: If the system cannot read the file.
        """
        data = self.peek(size)
        self.skip(len(data))
        if not data and self._broken:
            raise self._broken
        return data

    def close(self) -> None:
        """Nothing: who opened the file closes it."""

    def drain(self) -> None:
        """Read the file, packed as it stands, to its end, so that it is hashed whole."""
        while self._file.read(CHUNK):
            pass

    def _next(self) -> bytes:
        if self._broken:
            raise self._broken
        try:
            chunk = self._unpacked.read1(CHUNK)
        except _DAMAGE as error:  # what the system refuses has become a DataError below
            message = f"the {self.packing} stream breaks off ({error})"
            self._broken = BrokenOffError(message)
            raise self._broken from error
        self._n_unpacked += len(chunk)
        if self.packing and self._n_unpacked > max(BOMB_BYTES, BOMB_FACTOR * self.size):
            message = (
                f"the {self.packing} stream grows more than {BOMB_FACTOR} times, as a bomb does"
            )
            self._broken = BrokenOffError(message)
            raise self._broken
        return chunk


class _Tally:
    """A file's bytes as they stand, counted and hashed when they are taken."""

    closed = False  # pyarrow asks

    def __init__(self, raw: Readable, path: Path) -> None:
        self._raw, self._path = raw, path
        self._digest = hashlib.sha256()
        self._ahead = b""
        self._is_whole = False
        self.size = 0

    @property
    def sha256(self) -> str | None:
        return self._digest.hexdigest() if self._is_whole else None

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (part := self._taken(size)):
            self._ahead += part
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        data, self._ahead = (self._ahead[:size], self._ahead[size:]) if self._ahead else (b"", b"")
        data = data or self._taken(size)
        self._is_whole = not data
        self._digest.update(data)
        self.size += len(data)
        return data

    read1 = read

    def close(self) -> None:
        """Nothing: who opened the file closes it."""

    def _taken(self, size: int) -> bytes:
        try:
            return self._raw.read(size)
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            raise DataError(message, path=self._path) from error


class _Streams:
    """Packed streams one after another, through decompressors that give at most what is asked."""

    def __init__(self, file: _Tally, make: Callable[[], Any]) -> None:
        self._file, self._make = file, make
        self._decompressor = make()
        self._rest = b""

    def read1(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof and not self._begins_again():
                return b""
            data = b""
            if self._decompressor.needs_input:
                data = self._rest or self._file.read(_PACKED_CHUNK)
                self._rest = b""
                if not data:
                    message = "the file ends before the end-of-stream marker"
                    raise EOFError(message)
            if chunk := self._decompressor.decompress(data, size):
                return cast("bytes", chunk)

    def _begins_again(self) -> bool:
        """Whether another stream follows; padding of zeros between streams is nothing."""
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while not rest:
            data = self._file.read(_PACKED_CHUNK)
            if not data:
                return False
            rest = data.lstrip(b"\0")
        self._decompressor, self._rest = self._make(), rest
        return True


class _Zstd:
    """zstd by the codec of pyarrow, which is here anyway for Parquet."""

    def __init__(self, file: _Tally) -> None:
        import pyarrow

        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")

    def read1(self, size: int) -> bytes:
        # Little at once: what was unpacked in a call that fails is lost.
        return cast("bytes", self._stream.read(min(size, _PACKED_CHUNK)))


_UNPACKERS: Final[dict[str, Callable[[_Tally], _Unpacked]]] = {
    "": lambda file: file,
    "gzip": lambda file: gzip.GzipFile(fileobj=cast("BinaryIO", file), mode="rb"),
    "bzip2": lambda file: _Streams(file, bz2.BZ2Decompressor),
    "xz": lambda file: _Streams(file, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
    "zstd": _Zstd,
}

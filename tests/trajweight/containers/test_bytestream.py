"""Laws of bytes on the way: unpacked as the tools unpack them, counted, hashed, never too many."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.containers.given import PACKINGS, Bytes, stream_of
from trajweight.containers import bytestream
from trajweight.containers.bytestream import BrokenOffError, ByteStream
from trajweight.errors import DataError

NOWHERE = Path("data")
each_packing = pytest.mark.parametrize("packing", PACKINGS)
each_packed = pytest.mark.parametrize("packing", [name for name in PACKINGS if name != "plain"])


def told(stream: ByteStream) -> tuple[bytes, str]:
    """What comes of a stream, and why it ends before its end."""
    parts: list[bytes] = []
    try:
        parts.extend(stream.chunks())  # what came before an error stays
    except BrokenOffError as error:
        return b"".join(parts), str(error)
    return b"".join(parts), ""


def noise(size: int) -> bytes:
    """Text that no packing makes much smaller."""
    return random.Random(size).randbytes(size // 2).hex().encode()


@each_packing
@given(data=st.binary(max_size=500), cuts=st.lists(st.integers(0, 600)))
@settings(max_examples=30)
def test_what_was_packed_comes_out_in_whatever_pieces_it_comes(packing, data, cuts):
    if packing == "plain" and bytestream.packing_of(data):
        return
    packed = PACKINGS[packing](data)
    stream = stream_of(packed, cuts, NOWHERE)

    assert told(stream) == (data, "")
    stream.drain()
    assert (stream.size, stream.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())


@each_packed
def test_several_members_are_one_stream(packing):
    pack = PACKINGS[packing]

    assert told(stream_of(pack(b"one ") + pack(b"") + pack(b"two"), [], NOWHERE)) == (
        b"one two",
        "",
    )


@pytest.mark.parametrize("packing", ["gzip", "xz"])
def test_zeros_behind_a_member_are_padding(packing):
    pack = PACKINGS[packing]
    padding = b"\0" * 8

    assert told(stream_of(pack(b"one") + padding, [], NOWHERE)) == (b"one", "")
    assert told(stream_of(pack(b"one") + padding + pack(b"two"), [], NOWHERE))[0] == b"onetwo"


@each_packed
def test_a_stream_cut_off_gives_what_came_and_says_why(packing):
    data = noise(2_500_000 if packing == "bzip2" else 500_000)  # whose blocks are so large
    packed = PACKINGS[packing](data)

    came, why = told(stream_of(packed[: len(packed) // 2], [], NOWHERE))

    assert data.startswith(came)
    assert len(came) > len(data) // 8
    assert why.startswith(f"the {packing} stream breaks off (")


@each_packed
def test_a_stream_that_is_spoilt_breaks_off_or_differs_and_never_hangs(packing):
    data = noise(200_000)
    packed = bytearray(PACKINGS[packing](data))
    packed[len(packed) // 2] ^= 0xFF

    came, why = told(stream_of(bytes(packed), [], NOWHERE))

    assert len(came) < 2 * len(data)
    assert why or packing == "zstd"  # which has a checksum only where it was asked for


def test_what_follows_the_last_member_breaks_the_stream():
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        came, why = told(stream_of(pack(b"data") + b"garbage", [], NOWHERE))

        assert came == b"data"
        assert why


@each_packed
@pytest.mark.parametrize("n", range(1, 12))
def test_the_first_bytes_of_a_packed_file_alone_are_no_traceback(packing, n):
    came, _ = told(stream_of(PACKINGS[packing](b"data")[:n], [], NOWHERE))

    assert len(came) <= n


def test_text_that_only_begins_like_a_packed_file_is_text():
    for data in (b"BZh is no word\n", b"BZh", b"\x1f", b"\xfd7zX", b""):
        stream = stream_of(data, [], NOWHERE)

        assert stream.packing == ""
        assert told(stream) == (data, "")


@each_packed
def test_a_bomb_is_cut_off_early(packing, monkeypatch):
    monkeypatch.setattr(bytestream, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(bytestream, "BOMB_FACTOR", 100)
    bomb = PACKINGS[packing](bytes(50_000_000))

    came, why = told(stream_of(bomb, [], NOWHERE))

    assert "grows more than 100 times" in why
    assert len(came) < 30_000_000
    if packing != "bzip2":  # whose blocks are so small that all of them are taken at once
        assert len(came) <= max(1 << 20, 100 * len(bomb)) + bytestream.CHUNK


def test_what_packs_well_is_no_bomb(monkeypatch):
    monkeypatch.setattr(bytestream, "BOMB_BYTES", 1 << 20)

    data = b"".join(b'{"id": %d, "messages": []}\n' % i for i in range(100_000))

    assert told(stream_of(gzip.compress(data), [], NOWHERE)) == (data, "")


@each_packing
@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_peeking_takes_nothing(packing, size):
    data = noise(300_000)
    stream = stream_of(PACKINGS[packing](data), [], NOWHERE)

    assert stream.peek(size) == stream.peek(size) == data[:size]
    assert told(stream) == (data, "")


def test_reading_gives_as_much_as_was_asked_for_until_the_end():
    stream = stream_of(gzip.compress(b"0123456789"), [], NOWHERE)

    assert [stream.read(4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]


def test_the_hash_is_not_claimed_before_the_end():
    packed = gzip.compress(noise(2_000_000))
    stream = stream_of(packed, [], NOWHERE)

    next(stream.chunks())
    assert stream.sha256 is None

    stream.drain()
    assert stream.sha256 == hashlib.sha256(packed).hexdigest()


def test_an_error_of_the_system_names_the_file():
    class Failing(Bytes):
        def read(self, size: int = -1) -> bytes:
            if not self.pieces:
                raise OSError(5, "Input/output error")
            return super().read(size)

    for data in (b"text", gzip.compress(noise(100_000))[:5000], PACKINGS["zstd"](noise(9999))[:99]):
        with pytest.raises(DataError, match=r"^data: cannot be read: Input/output error"):
            told(ByteStream(Failing([data]), NOWHERE))


def test_an_xz_stream_that_asks_for_very_much_memory_is_refused():
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    # What the packer needs for it is not had here, so the header alone is changed.
    small = lzma.compress(b"data", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 12}])
    assert filters[0]["dict_size"] > bytestream._XZ_MEMORY
    asks = _with_dictionary(small, 36)  # 2 ** (36 // 2 + 12) = 1 GB

    came, why = told(stream_of(asks, [], NOWHERE))

    assert came == b""
    assert "emory" in why


def _with_dictionary(packed: bytes, code: int) -> bytes:
    """An xz stream whose block header asks for another dictionary; its checksum is made anew."""
    import zlib

    header = bytearray(packed[12:24])
    assert header[0] == 2  # twelve bytes with the checksum
    assert header[2:4] == b"\x21\x01"  # LZMA2, one byte of properties
    header[4] = code
    header[8:12] = zlib.crc32(bytes(header[:8])).to_bytes(4, "little")
    return packed[:12] + bytes(header) + packed[24:]


def test_zstd_needs_no_package_of_its_own():
    program = (
        "import sys; sys.modules['zstandard'] = None\n"
        "import io, pathlib, pyarrow\n"
        "from trajweight.containers.bytestream import ByteStream\n"
        "packed = io.BytesIO(pyarrow.compress(b'data', codec='zstd', asbytes=True))\n"
        "print(b''.join(ByteStream(packed, pathlib.Path('x')).chunks()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )

    assert done.stdout.strip() == "b'data'"

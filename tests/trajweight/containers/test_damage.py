"""Laws of damage: whatever a file holds, there is an error in words or every record is told."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trajweight.containers.given import CONTAINERS, PACKINGS, ROWS, json_lines
from trajweight.containers import bytestream, filesource, jsonlines, jsonvalues, open_source
from trajweight.errors import DataError
from trajweight.jsontext import NotJsonError, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKED = {
    f"{name}, {packing}": pack(data)
    for name, data in CONTAINERS.items()
    for packing, pack in PACKINGS.items()
}
GOOD = [encode(row) for row in ROWS]

_changes = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 50)),
        st.tuples(st.just("double"), st.floats(0, 1), st.integers(1, 50)),
        st.tuples(st.just("put"), st.floats(0, 1), st.binary(max_size=8)),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    for kind, where, how in changes:
        place = int(where * len(data))
        if kind == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ how]) + data[place + 1 :]
        elif kind == "cut":
            data = data[:place]
        elif kind == "drop":
            data = data[:place] + data[place + how :]
        elif kind == "double":
            data = data[: place + how] + data[place:]
        elif kind == "put":
            data = data[:place] + how + data[place:]
    return data


def told(path: Path) -> tuple[int, int] | None:
    """How many records are sound and how many not; None where the file is refused."""
    try:
        records = list(open_source(path).records())
    except DataError:
        return None
    for record in records:
        assert isinstance(record.text, str)
        assert record.value is None or not record.fault
        with contextlib.suppress(NotJsonError):  # nested as deeply as can be read, not written
            encode(record.value)
    n_faults = sum(bool(record.fault) for record in records)
    return len(records) - n_faults, n_faults


@pytest.mark.parametrize("name", PACKED)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_changes)
def test_a_spoilt_file_is_refused_or_every_record_of_it_is_told(tmp_path, name, changes):
    path = tmp_path / "data"
    path.write_bytes(changed(PACKED[name], changes))

    told(path)


@pytest.mark.parametrize("name", [name for name in PACKED if "Parquet" not in name])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_a_file_cut_off_keeps_what_came_before_and_no_row_that_was_not_there(tmp_path, name, share):
    path = tmp_path / "data"
    path.write_bytes(PACKED[name][: int(share * len(PACKED[name]))])

    try:
        records = list(open_source(path).records())
    except DataError:
        return

    sound = [encode(record.value) for record in records if not record.fault]
    assert sound == GOOD[: len(sound)]
    assert sum(bool(record.fault) for record in records) <= 1


@given(st.binary(max_size=400))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_or_told(tmp_path, data):
    (tmp_path / "data").write_bytes(data)

    told(tmp_path / "data")


@given(
    st.sampled_from(
        [b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"PK\x03\x04", b"BZh91AY&SY"]
    ),
    st.binary(max_size=200),
    st.sampled_from([b"PAR1", b"ARROW1", b""]),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_only_begin_like_a_container_are_refused_or_told(tmp_path, start, data, end):
    (tmp_path / "data").write_bytes(start + data + end)

    told(tmp_path / "data")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 300_000,
        b'{"a":' * 100_000,
        b"[" * 1000 + b"]" * 1000,
        b"[[" + b"[" * 100_000 + b"]" * 100_000 + b"]]",
        b"[" + b"9" * 100_000 + b"]",
        b"[1e99999, -1e99999]",
        b'["\\ud800", "\\udfff"]',
        b"\x00" * 100_000,
        b"," * 100_000,
        b"[" + b"," * 100_000,
        b'"' * 100_001,
        b"\\" * 100_001,
        b"[\n" * 50_000,
        b'{"a": 1}' * 20_000,
        b"[]" * 100_000,
        b'{\n"a": "' + b"\\" * 100_001 + b'"}',
    ],
)
def test_hard_texts_are_told_without_a_crash_and_soon(tmp_path, text):
    (tmp_path / "data").write_bytes(text)

    assert told(tmp_path / "data")


# Memory


class Endless(io.RawIOBase):
    """An open file that holds a beginning and then the same chunk over and over."""

    def __init__(self, start: bytes, chunk: bytes, times: int, end: bytes) -> None:
        self.chunks: Iterator[bytes] = iter([start, *[chunk] * times, end])
        self.rest = b""

    def read(self, size: int = -1) -> bytes:
        self.rest = self.rest or next(self.chunks, b"")
        data, self.rest = (self.rest, b"") if size < 0 else (self.rest[:size], self.rest[size:])
        return data


_line = json_lines([{"text": "x" * 1000, "n": 3}])


@pytest.mark.parametrize(
    ("start", "chunk", "end"),
    [
        (b"", _line * 100, b""),
        (b"[", _line * 100, b""),  # broken after the first element
        (b"[" + _line, (b"," + _line) * 100, b"]"),
        (b"", (b'{\n"a": "' + b"b" * 990 + b'"}\n') * 100, b""),
        (b"{}\n" + b'"', b"x" * 100_000, b'"\n'),
        (b"[1, [", b"2, " * 30_000, b"3]]"),
        (b"{\n", b' "x": [1],\n' * 10_000, b"}"),
        (b"", (b" " * 999 + b"\n") * 100, b""),
    ],
)
def test_memory_does_not_grow_with_the_file(start, chunk, end, tmp_path, monkeypatch):
    (tmp_path / "first").write_bytes(b"[1]")
    assert told(tmp_path / "first") == (1, 0)  # what is imported late is there before we look
    for module, name in (
        (jsonlines, "RECORD_LIMIT"),
        (jsonlines, "DOCUMENT_LIMIT"),
        (jsonvalues._Elements, "limit"),
        (jsonvalues._Documents, "limit"),
    ):
        monkeypatch.setattr(module, name, 1 << 20)
    times = (20 << 20) // len(chunk)
    (tmp_path / "data").touch()
    monkeypatch.setattr(filesource, "_opened", lambda _: Endless(start, chunk, times, end))

    tracemalloc.start()
    n = sum(1 for _ in open_source(tmp_path / "data").records())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert n >= (not chunk.isspace())
    assert peak < 8 << 20


def test_what_is_not_read_any_more_is_not_held(tmp_path, monkeypatch):
    (tmp_path / "data").touch()
    text = (b"[1}\n", b"x" * 100_000, 200, b"")
    monkeypatch.setattr(filesource, "_opened", lambda _: Endless(*text))

    tracemalloc.start()
    first, last = open_source(tmp_path / "data").records()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert first.value == 1
    assert last.text.startswith("}\nxxx")
    assert peak < 8 << 20


def test_a_bomb_in_a_packed_file_ends_with_a_fault_and_small_memory(tmp_path, monkeypatch):
    # 100 MB in one line: unpacked whole, they would show in what is traced.
    monkeypatch.setattr(bytestream, "BOMB_BYTES", 4 << 20)
    monkeypatch.setattr(jsonlines, "RECORD_LIMIT", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    pack = zlib.compressobj(9, wbits=31)
    with path.open("wb") as stream:
        stream.write(pack.compress(b'{"n": 1}\n{"n": "'))
        for _ in range(100):
            stream.write(pack.compress(bytes(1 << 20)))
        stream.write(pack.flush())

    tracemalloc.start()
    first, last = open_source(path).records()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert first.value == {"n": 1}
    assert "as a bomb does" in last.fault
    assert peak < 8 << 20


def test_an_archive_with_names_that_lead_out_of_it_writes_nothing(tmp_path):
    path = tmp_path / "in" / "log.eval"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"eval": {}}))
        archive.writestr("samples/../../../out.json", "{}")
        archive.writestr("../../out.json", "{}")

    told(path)

    assert list(tmp_path.rglob("*")) == [path.parent, path]

"""Files for the tests of containers: the same values, packed in every way."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from trajweight.containers import open_source
from trajweight.containers.bytestream import ByteStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trajweight.records import Record

#: Rows of one shape, so that a table can hold them, with what misleads who looks for brackets.
ROWS: list[dict[str, Any]] = [
    {
        "id": f"row {i}",
        "messages": [
            {"role": "user", "content": 'say "]},{[" \\'},
            {"role": "assistant", "content": "]" * i + "ä\u2028€😀\\\\"},
        ],
        "reward": i / 4,
        "n": i,
        "ok": i % 2 == 0,
        "info": {"tags": ["a", "b"][: i % 3], "none": None},
    }
    for i in range(7)
]

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def json_lines(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def json_array(rows: Iterable[Any], indent: int | None = None) -> bytes:
    return json.dumps(list(rows), indent=indent, ensure_ascii=False).encode()


def json_documents(rows: Iterable[Any]) -> bytes:
    return "\n".join(json.dumps(row, indent=2, ensure_ascii=False) for row in rows).encode()


def parquet(rows: Iterable[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), stream, **options)
    return stream.getvalue()


def arrow(rows: Iterable[Any], *, is_stream: bool, batch: int = 1000) -> bytes:
    table = pyarrow.Table.from_pylist(list(rows))
    stream = io.BytesIO()
    make = pyarrow.ipc.new_stream if is_stream else pyarrow.ipc.new_file
    with make(stream, table.schema) as writer:
        writer.write_table(table, batch)
    return stream.getvalue()


#: By the container's name, a file that holds `ROWS`.
CONTAINERS: dict[str, bytes] = {
    "JSON lines": json_lines(ROWS),
    "JSON array": json_array(ROWS),
    "JSON array, indented": json_array(ROWS, indent=2),
    "JSON document": json_documents(ROWS),
    "Parquet": parquet(ROWS),
    "Arrow file": arrow(ROWS, is_stream=False),
    "Arrow stream": arrow(ROWS, is_stream=True),
}


def records_of(path: Path) -> list[Record]:
    return list(open_source(path).records())


def values_of(path: Path) -> list[Any]:
    records = records_of(path)
    assert not [record.fault for record in records if record.fault]
    return [record.value for record in records]


class Bytes(io.RawIOBase):
    """An open file that gives its bytes in the pieces it is told to."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def read(self, size: int = -1) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if 0 <= size < len(piece):
            piece, rest = piece[:size], piece[size:]
            self.pieces.insert(0, rest)
        return piece


def stream_of(data: bytes, cuts: Iterable[int], path: Path) -> ByteStream:
    """The bytes in pieces that end at these places."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    return ByteStream(Bytes(pieces), path)


def finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_TEXTS = st.text() | st.sampled_from(['"', "\\", '\\"', "]}", "{[,", "\\\\", "a,b", "\n", "\ud7ff"])
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(10**17, 10**25) | st.floats() | _TEXTS
)
json_values = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)

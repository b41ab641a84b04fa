"""Laws of JSON lines: a line that is not blank is a record, whatever stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.containers.given import finite, json_values, stream_of
from trajweight.containers import decoding, jsonlines
from trajweight.containers.decoding import Piece
from trajweight.containers.jsonlines import records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trajweight.records import Record

NOWHERE = Path("data.jsonl")
BOM = b"\xef\xbb\xbf"
#: How what is packed begins; it is unpacked, so its bytes are not those of its lines.
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_any_bytes = st.binary(max_size=200).filter(lambda data: not data.startswith(PACKED))
_cuts = st.lists(st.integers(0, 3000), max_size=20)


def slow_records(text: bytes) -> list[tuple[int, bytes]]:
    """The twin: the number and the bytes of every line that is not blank."""
    lines = enumerate(text.removeprefix(BOM).split(b"\n"), start=1)
    return [(number, line.removesuffix(b"\r")) for number, line in lines if line.strip()]


def read(text: bytes, cuts: Iterable[int] = ()) -> list[Record]:
    return list(records(stream_of(text, cuts, NOWHERE)))


@given(st.lists(json_values, max_size=8), _cuts, st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]))
def test_values_are_those_that_json_loads_gives_however_the_bytes_come(values, cuts, end):
    text = "".join(json.dumps(value) + end for value in values).encode()

    found = read(text, cuts)

    assert [record.value for record in found] == finite(values)
    assert [(record.number, record.raw) for record in found] == slow_records(text)


@given(_any_bytes.map(lambda data: data.replace(b"a", b"\n")), _cuts)
def test_any_bytes_are_as_many_records_as_lines_that_are_not_blank(text, cuts):
    found = read(text, cuts)

    assert [(record.number, record.raw) for record in found] == slow_records(text)
    for record in found:
        assert isinstance(record.text, str)
        if not record.fault:
            assert record.value == finite(json.loads(record.text))


def test_a_line_above_the_limit_is_a_fault_and_the_next_one_is_read(monkeypatch):
    monkeypatch.setattr(jsonlines, "RECORD_LIMIT", 1000)
    text = b'{"n": 1}\n"' + b"x" * 5000 + b'"\n"' + b"y" * 998 + b'"\n[' + b" " * 5000 + b"]"

    for cuts in (range(0, len(text), 100), range(0, len(text), 999)):
        found = read(text, cuts)

        assert [record.number for record in found] == [1, 2, 3, 4]
        assert [bool(record.fault) for record in found] == [False, True, False, True]
        assert "longer than" in found[1].fault
        assert str(found[1].text).startswith('"xxx')


def test_a_first_line_may_be_as_long_as_a_document(monkeypatch):
    monkeypatch.setattr(jsonlines, "RECORD_LIMIT", 1000)
    text = b'"' + b"x" * 5000 + b'"'

    (record,) = read(text, range(0, len(text), 100))

    assert not record.fault


def test_a_long_line_that_is_not_utf8_is_kept_in_part():
    (record,) = read(b'{"a": "' + b"\xff" * 3_000_000 + b'"}')

    assert "not UTF-8: byte 0xff at position 8; its first 1,048,576 bytes are kept" in record.fault
    assert record.text.startswith('{"a": "\\xff\\xff')
    assert isinstance(record.raw, bytes)
    assert len(record.raw) == 1 << 20


def test_keys_that_stand_twice_are_remarked_in_the_first_lines_and_in_some_later_ones():
    twice = b'{"a": {"b": 1, "b": 2}}\n'

    found = read(twice + b"{}\n" * 254 + twice + twice)

    remarked = [record.number for record in found if record.remarks]
    assert remarked == [1, 256]
    assert found[0].remarks == ("key 'b' is given twice in one object; the last one counts",)


def test_a_piece_that_is_too_long_lets_go_of_all_but_its_beginning():
    piece = Piece(1_000_000)
    for letter in b"abcdefgh":
        piece.add(bytes([letter]) * 200_000)

    assert piece.take() == b"a" * decoding.SHOWN
    assert piece.size == 0


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(0, 100))
def test_a_piece_holds_all_or_its_beginning(parts, limit):
    piece = Piece(limit)
    for part in parts:
        piece.add(part)
    whole = b"".join(parts)

    assert piece.size == len(whole)
    assert piece.is_too_long == (len(whole) > limit)
    assert whole.startswith(piece.take()[: decoding.SHOWN])
    assert (piece.size, piece.take()) == (0, b"")

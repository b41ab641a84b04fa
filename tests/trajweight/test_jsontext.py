"""Laws of JSON text: what the fast way reads is what the standard library reads."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.jsontext import (
    NotJsonError,
    _has_long_number,
    decode,
    decode_leniently,
    encode,
    encode_utf8,
)

DIGITS = st.integers(1, 60).map(lambda n: ("1234567890" * 6)[:n])
PIECES = st.lists(DIGITS | st.text(max_size=12) | st.just("0.8444218515250481, "), max_size=12)
WHOLE = st.integers(-(10**45), 10**45) | st.integers(2**63 - 2, 2**64 + 2)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | WHOLE
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(PIECES)
def test_a_long_number_is_seen_wherever_it_stands_and_nothing_else_is(pieces):
    text = "".join(pieces)
    expected = re.search("[0-9]{19}", text) is not None

    assert _has_long_number(text) is expected
    assert _has_long_number(text.encode()) is expected


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_values_are_read_exactly_from_text_and_from_bytes(value):
    text = json.dumps(value, ensure_ascii=False)

    assert json.dumps(decode(text)) == json.dumps(value)
    assert json.dumps(decode(text.encode())) == json.dumps(value)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans())
def test_what_is_written_is_read_back_the_same(value, sort_keys):
    text = encode(value, sort_keys=sort_keys)

    assert encode_utf8(value, sort_keys=sort_keys) == text.encode()
    assert decode(text) == value
    expected = json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)
    if re.search(r"[0-9]{19}|[.eE]", expected) is None:  # floats are spelt in several ways
        assert text == expected


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": [NaN, -Infinity]}'])
def test_numbers_that_are_none_are_null_and_listed(text):
    value, found = decode_leniently(text.encode())

    assert "Infinity" in str(found[-1])
    assert "Infinity" not in json.dumps(value)
    with pytest.raises(NotJsonError, match="not JSON: a"):
        decode(text)


@pytest.mark.parametrize("data", [b'{"a": "\xff"}', b'{"a": \xff 1}', b'"\xed\xa0\x80"'])
def test_bytes_that_are_no_utf_8_are_told_by_their_place(data):
    with pytest.raises(UnicodeDecodeError) as caught:
        decode(data)

    assert caught.value.start == next(place for place, byte in enumerate(data) if byte > 127)

"""Laws of finding where JSON values end: what a machine that reads byte by byte finds."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.trajweight.containers.given import json_values
from trajweight.containers.structure import Structure

Marks = list[tuple[int, int, bool]]


def slow_marks(text: bytes) -> Marks:
    """The twin: one byte after another, up to the first bracket that closes nothing."""
    found: Marks = []
    depth, is_in_string, is_escaped = 0, False, False
    for place, byte in enumerate(text):
        character = chr(byte)
        if is_escaped and character in '"\\':
            is_escaped = False
            continue
        is_escaped = False
        if character == "\\":
            is_escaped = True
        elif character == '"':
            is_in_string = not is_in_string
        elif is_in_string:
            continue
        elif character == "," and depth == 1:
            found.append((place, depth, True))
        elif character in "[{":
            depth += 1
            if depth == 1:
                found.append((place, depth, False))
        elif character in "]}":
            depth -= 1
            if depth <= 0:
                found.append((place, depth, False))
            if depth < 0:
                return found
    return found


def marks_in_chunks(text: bytes, cuts: list[int]) -> Marks:
    structure, found = Structure(), Marks()
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    for start, end in pairwise(places):
        for mark in structure.marks(text[start:end]):
            found.append((start + mark.place, mark.depth, mark.is_comma))
            if mark.depth < 0:
                return found
    return found


_cuts = st.lists(st.integers(0, 10_000))
_near_json = st.text(alphabet='"\\[]{},:a1 \n', max_size=80).map(str.encode)


@given(_near_json, _cuts)
@example(b'["\\\\", "\\\\\\"", 1]', [3, 4, 5, 10])
@example(b'\\"[1,2]', [1])
@example(b"]]]]", [])
@example(b'"ab\\"c", [1,2]', [4])  # a chunk that begins with a quote and ends with a backslash
def test_marks_are_those_of_the_slow_twin_wherever_the_text_is_cut(text, cuts):
    assert marks_in_chunks(text, cuts) == slow_marks(text)


@given(st.lists(json_values, max_size=5), _cuts, st.sampled_from([None, 1]))
def test_true_json_is_marked_at_its_commas_and_at_its_ends_alone(values, cuts, indent):
    text = json.dumps(values, indent=indent).encode()

    found = marks_in_chunks(text, cuts)

    assert found == slow_marks(text)
    assert len(found) == 2 + max(0, len(values) - 1)


@given(st.binary(max_size=60), _cuts)
def test_any_bytes_are_followed(data, cuts):
    assert marks_in_chunks(data, cuts) == slow_marks(data)


@given(_near_json)
def test_without_commas_the_brackets_are_left(text):
    brackets = [mark for mark in Structure().marks(text) if not mark.is_comma]

    assert list(Structure(with_commas=False).marks(text)) == brackets


@pytest.mark.parametrize("n", range(8))
def test_a_quote_behind_backslashes_ends_the_string_when_they_are_even(n):
    text = b'["' + b"\\" * n + b'",1]'

    commas = [mark for mark in Structure().marks(text) if mark.is_comma]

    assert len(commas) == (n % 2 == 0)

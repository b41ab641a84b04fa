"""Laws of arrays and documents: the values that json.loads gives, one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.trajweight.containers.given import ROWS, finite, json_values, records_of, stream_of
from trajweight.containers import decoding, jsonvalues
from trajweight.containers.jsonvalues import documents, elements

if TYPE_CHECKING:
    from trajweight.records import Record

NOWHERE = Path("data.json")
_cuts = st.lists(st.integers(0, 2000), max_size=30)


def of_array(text: bytes, cuts: Any = ()) -> list[Record]:
    return list(elements(stream_of(text, cuts, NOWHERE)))


def of_documents(text: bytes, cuts: Any = ()) -> list[Record]:
    return list(documents(stream_of(text, cuts, NOWHERE)))


def sound(records: list[Record]) -> list[Any]:
    return [record.value for record in records if not record.fault]


def faults(records: list[Record]) -> list[tuple[int, str]]:
    return [(record.number, record.fault) for record in records if record.fault]


@given(st.lists(json_values, max_size=6), _cuts, st.sampled_from([None, 0, 2]))
@example([[], {}, "", "]", "\\"], [], None)
def test_elements_are_those_that_json_loads_gives_however_the_bytes_come(values, cuts, indent):
    text = json.dumps(values, indent=indent, ensure_ascii=False)

    records = of_array(text.encode(), cuts)

    assert sound(records) == finite(json.loads(text))
    assert not faults(records)
    assert [record.number for record in records] == list(range(1, len(values) + 1))


@given(st.lists(json_values, max_size=3))
@settings(max_examples=30)
def test_one_byte_at_a_time_gives_the_same(values):
    text = json.dumps(values).encode()

    assert of_array(text, range(len(text))) == of_array(text)


@given(st.lists(st.lists(json_values, max_size=3), max_size=4), _cuts)
def test_arrays_one_after_another_are_read_as_one(arrays, cuts):
    text = "\n".join(map(json.dumps, arrays)).encode()

    records = of_array(text, cuts)

    assert sound(records) == finite([value for array in arrays for value in array])
    assert not faults(records)


objects = st.dictionaries(st.text(max_size=3), json_values, max_size=3)


@given(st.lists(objects, min_size=1, max_size=4), _cuts, st.sampled_from(["\n", " ", "", "\r\n"]))
def test_documents_are_those_that_json_loads_gives_however_the_bytes_come(values, cuts, between):
    text = between.join(json.dumps(value, indent=1) for value in values).encode()

    records = of_documents(text, cuts)

    assert sound(records) == finite(values)
    assert not faults(records)


def test_whole_numbers_of_any_size_and_numbers_that_are_none_are_read_as_in_lines():
    (record,) = of_array(b'[{"big": 123456789012345678901234567890, "nan": [1, NaN]}]')

    assert record.value == {"big": 123456789012345678901234567890, "nan": [1, None]}
    assert [str(each) for each in record.non_finite] == ["nan.1 is NaN"]


@pytest.mark.parametrize(
    "broken", [b"nope", b'{"a": tru}', b"{'a': 1}", b'{"a": "\xff"}', b"[1 2]", b""]
)
def test_a_broken_element_costs_that_element_alone(broken):
    records = of_array(b'[{"a": 1}, ' + broken + b', {"a": 3}]')

    assert sound(records) == [{"a": 1}, {"a": 3}]
    ((number, fault),) = faults(records)
    assert number == 2
    assert "the element begins at byte" in fault
    assert records[1].raw == broken


def test_the_place_of_a_broken_element_is_told_by_its_byte():
    text = b'[{"a": 1},\n   {"a": nope}]'

    ((_, fault),) = faults(of_array(text))

    place = int(fault.rpartition("byte ")[2].rstrip(")"))
    assert text[place - 1 :].startswith(b'{"a": nope}')


@pytest.mark.parametrize(
    ("text", "n_sound", "why"),
    [
        (b'[{"a":1},{"a":2,{"a":3},{"a":4}]', 1, "the file ends within the array"),
        (b'[{"a":1},{"a":"x"y"},{"a":3}]', 1, "the file ends within the array"),
        (b'[{"a":1},{"a":2}', 2, "the file ends within the array"),
        (b'[{"a":1},{"a":', 1, "the file ends within the array"),
        (b'[{"a":1},', 1, "the file ends within the array"),
        (b"[", 0, "the file ends within the array"),
        (b"[1, no, no, 2, 3]", 1, "nor is the one before it"),
        (b"[1} , 2]", 1, "closed by '}'"),
        (b"[1] [2] three", 2, "no other array"),
        (b'[1] {"a": 2}', 1, "no other array"),
        (b"[1], [2]", 1, "no other array"),
        (b"[1]]", 1, "no other array"),
    ],
)
def test_an_array_that_cannot_be_followed_keeps_what_came_before(text, n_sound, why):
    for cuts in ((), range(len(text))):
        records = of_array(text, cuts)

        assert len(sound(records)) == n_sound
        assert why in records[-1].fault
        assert len(faults(records)) <= 2
        assert [record.number for record in records] == list(range(1, len(records) + 1))


def test_the_rest_that_is_not_read_is_shown_from_its_beginning():
    records = of_array(b'[{"a":1}, {"b": [1, 2}, {"c": 3}, ' + b'{"d": 4}, ' * 100_000)

    assert len(records) == 2
    assert str(records[-1].text).startswith(' {"b": [1, 2}, {"c": 3}')
    assert len(records[-1].text) <= decoding.SHOWN


def test_a_comma_at_the_end_is_a_fault_and_an_empty_array_is_none():
    assert [fault for _, fault in faults(of_array(b"[1, 2, ]"))]
    assert of_array(b" [ ] ") == []


@pytest.mark.parametrize(
    ("text", "n_sound", "why"),
    [
        (b'{"a": 1}\n{"a": \n', 1, "not JSON"),
        (b'{"a": 1}\n}\n{"a": 2}', 1, "closes what was never opened"),
        (b'{"a": 1} and more', 1, "not JSON"),
        (b'{"a": 1}, {"a": 2}', 1, "not JSON"),
        (b'{"a"; 1}{"a"; 2}{"a": 3}', 0, "nor is the one before it"),
    ],
)
def test_documents_that_cannot_be_followed_keep_what_came_before(text, n_sound, why):
    records = of_documents(text)

    assert len(sound(records)) == n_sound
    assert why in records[-1].fault


def test_a_document_that_is_none_is_told_by_line_and_column():
    ((_, fault),) = faults(of_documents(b'{\n  "a": 1,\n  "b": nope\n}'))

    assert "at line 3, column 8" in fault


def test_an_element_above_the_limit_is_a_fault_and_the_next_one_is_read(monkeypatch):
    monkeypatch.setattr(jsonvalues._Elements, "limit", 100)
    text = json.dumps(["a" * 98, "a" * 99, {"b": ["c" * 1000]}, 4]).encode()

    for cuts in ((), range(0, len(text), 7)):
        records = of_array(text, cuts)

        # 98 letters, two quotes; the blank before the second element counts too
        assert sound(records) == ["a" * 98, 4]
        assert [number for number, _ in faults(records)] == [2, 3]
        assert "longer than" in records[1].fault


def test_many_stray_brackets_are_no_work():
    assert len(of_documents(b"}" * 3_000_000)) == 1
    assert len(of_array(b"[" + b"]" * 3_000_000)) == 1


def test_keys_that_stand_twice_are_remarked(tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes(b'[{"a": 1, "b": {"c": 2, "c": 3}}, {"a": 1}]')

    first, second = records_of(path)

    assert first.value == {"a": 1, "b": {"c": 3}}
    assert first.remarks == ("key 'c' is given twice in one object; the last one counts",)
    assert not second.remarks


def test_rows_of_an_array_have_their_text(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS))

    assert [json.loads(record.text) for record in records_of(path)] == ROWS

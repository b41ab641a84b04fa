"""Laws of what is kept beside the rows: with the rows it gives every record back, and no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.formats import Item
from trajweight.jsontext import decode, encode
from trajweight.records import Record
from trajweight.remains import Remains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Reads = "Callable[[Iterable[Record]], Iterator[Item]]"


def read(
    values: list[Any], form: Callable[[Iterable[Record]], Iterator[Item]], *, raw: bool = True
) -> tuple[list[Item], list[dict[str, Any]]]:
    """The rows of a format, and what is kept beside them."""
    remains = Remains("f.json", "JSON lines")
    records = (
        Record(n, value, encode(value).encode() if raw else None)
        for n, value in enumerate(values, 1)
    )
    items: list[Item] = []
    for item in form(remains.watched(records)):
        remains.take(item, len(items))
        items.append(item)
    return items, remains.last_lines()


def given_back(items: list[Item], lines: list[dict[str, Any]]) -> dict[int, Any]:
    """Every record again, by its number, in the plainest way that the words of `Remains` allow."""
    head, *others = lines
    assert head == {"path": "f.json", "container": "JSON lines"}
    assert all(line["path"] == "f.json" for line in others)
    told: dict[int, dict[str, Any]] = {}
    inside: set[int] = set()
    for line in others:
        if line == {"path": "f.json", "in_order": False}:
            continue
        told.setdefault(line["record"], {}).update(line)
        inside |= {*line.get("parts", ()), *(row for row, _ in line.get("rows", ()))}
        inside |= {line["row"]} if "row" in line else set()
    found: dict[int, Any] = {}
    for row, item in enumerate(items):
        if item.numbers:
            found.update(zip(item.numbers, item.value, strict=True))
        elif row not in inside:
            assert item.record.number not in found
            found[item.record.number] = item.value
    for number, line in told.items():
        if "text" in line:
            found[number] = json.loads(line["text"])
        elif "row" in line:
            found[number] = items[line["row"]].value
        elif "envelope_json" in line:
            whole = decode(line["envelope_json"])
            for row, path in line.get("rows", ()):
                if not path:
                    whole = items[row].value
                    continue
                holder = whole
                for key in path[:-1]:
                    holder = holder[key]
                assert holder[path[-1]] is None
                holder[path[-1]] = items[row].value
            found[number] = whole
    return found


def plain(records: Iterable[Record]) -> Iterator[Item]:
    return (Item(record.value, record.number, record) for record in records)


def of_documents(records: Iterable[Record]) -> Iterator[Item]:
    for record in records:
        rows = record.value["rows"] if isinstance(record.value, dict) else None
        if not rows:
            yield Item(record.value, record.number, record)
            continue
        for n, row in enumerate(rows, 1):
            yield Item(row, n, record, envelope={**record.value, "rows": None})


def whole_and_parts(records: Iterable[Record]) -> Iterator[Item]:
    for record in records:
        yield Item(record.value, record.number, record)
        for part in record.value.get("rows", []):
            yield Item(part, record.number, record, envelope={})


def cut(records: Iterable[Record]) -> Iterator[Item]:
    for record in records:
        for key in record.value:
            yield Item({key: record.value[key]}, record.number, record, envelope={})
        if not record.value:
            yield Item(record.value, record.number, record)


def grouped(records: Iterable[Record]) -> Iterator[Item]:
    held = list(records)
    for group in (held[::2], held[1::2]):
        if group:
            numbers = tuple(record.number for record in group)
            yield Item([record.value for record in group], numbers[0], group[0], numbers=numbers)


def grouped_and_cut(records: Iterable[Record]) -> Iterator[Item]:
    held = list(records)
    numbers = tuple(record.number for record in held)
    for key in ("a", "b") if held else ():
        values = [{key: record.value.get(key)} for record in held]
        yield Item(values, numbers[0], held[0], numbers=numbers)


def backwards(records: Iterable[Record]) -> Iterator[Item]:
    for record in reversed(list(records)):
        yield Item(record.value, record.number, record)


def forgetful(records: Iterable[Record]) -> Iterator[Item]:
    return (Item(each.value, each.number, each) for each in records if each.number % 2)


SCALAR = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
VALUE = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3)
DOCUMENT = st.fixed_dictionaries({"rows": st.lists(VALUE, max_size=4), "info": VALUE})
FORMS = [
    (plain, VALUE),
    (of_documents, DOCUMENT),
    (whole_and_parts, DOCUMENT),
    (cut, OBJECT),
    (grouped, OBJECT),
    (grouped_and_cut, OBJECT),
    (backwards, VALUE),
    (forgetful, OBJECT),
]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(FORMS), st.booleans())
def test_rows_and_remains_give_every_record_back(data, form, raw):
    reads, values_of = form
    values = data.draw(st.lists(values_of, max_size=5))

    items, lines = read(values, reads, raw=raw)

    found = given_back(items, lines)
    assert found == dict(enumerate(values, 1))
    assert [encode(found[n]) for n in sorted(found)] == [encode(value) for value in values]


@given(st.lists(VALUE, max_size=5))
def test_of_rows_that_are_records_nothing_is_kept(values):
    _, lines = read(values, plain)

    assert len(lines) == 1


def test_it_is_told_when_rows_come_in_another_order():
    records = [Record(n, {"n": n}) for n in (1, 2, 3)]
    remains = Remains("f", "JSON lines")
    for number, item in enumerate(backwards(remains.watched(records))):
        remains.take(item, number)

    assert remains.last_lines()[1:] == [{"path": "f", "in_order": False}]


def test_a_document_is_kept_once_without_its_rows():
    document: dict[str, Any] = {"info": 1, "rows": [{"a": "long"}, None, {"b": [1]}]}

    items, lines = read([document], of_documents)

    assert lines[1:] == [
        {
            "path": "f.json",
            "record": 1,
            "envelope_json": '{"info":1,"rows":[null,null,null]}',
            "rows": [(0, ["rows", 0]), (2, ["rows", 2])],
            "parts": [1],
        }
    ]
    assert items[0].value is document["rows"][0]


def test_records_are_let_go_as_soon_as_their_rows_were_taken():
    remains = Remains("f", "JSON lines")
    records = [Record(n, {"rows": [{}], "n": n}) for n in range(1, 4)]
    seen = []
    for n, item in enumerate(of_documents(remains.watched(records))):
        remains.take(item, n)
        seen.append(len(remains.lines()))

    # the first line tells of the file; each record is settled when the next one is taken
    assert seen == [1, 1, 1]
    assert len(remains.last_lines()) == 1


def test_what_a_container_put_around_a_record_is_not_given_back():
    inner = {"id": 1}
    remains = Remains("f", "JSON document")
    record = Record(1, {"info": 2, "rows": [inner]}, b'{"id": 1}', place=("rows", 0))
    (item,) = of_documents(remains.watched([record]))

    remains.take(item, 0)

    assert remains.last_lines()[1:] == [{"path": "f", "record": 1, "row": 0}]


def test_a_record_nested_too_deeply_to_be_cut_is_kept_as_it_stood():
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    text = '{"rows": [{}], "x": ' + "[" * 601 + "]" * 601 + "}"
    remains = Remains("f", "JSON lines")
    record = Record(1, {"rows": [{}], "x": deep}, text.encode())
    for n, item in enumerate(of_documents(remains.watched([record]))):
        remains.take(item, n)

    assert remains.last_lines()[1:] == [{"path": "f", "record": 1, "text": text, "parts": [0]}]

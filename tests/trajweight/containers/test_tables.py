"""Laws of Parquet and Arrow: plain values as pyarrow has them, and nothing of the others lost."""

from __future__ import annotations

import base64
import datetime
import json
import math
import random
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.containers.given import ROWS, arrow, parquet, records_of, values_of
from trajweight.containers import open_source, tables
from trajweight.containers.arrowvalues import rows_of
from trajweight.errors import DataError
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["parquet", "file", "stream"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def written(path: Path, table: pa.Table, kind: str, **options: Any) -> Path:
    if kind == "parquet":
        pq.write_table(table, path, **options)
        return path
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as stream, make(stream, table.schema, **options) as writer:
        writer.write_table(table, 3)
    return path


def told(array: pa.Array) -> list[Any]:
    """The values of one column; every one of them goes through JSON unchanged."""
    rows, _ = rows_of(pa.record_batch([array], names=["x"]))
    values = [row["x"] for row in rows]
    assert [decode(encode(value)) for value in values] == values
    return values


# Values that JSON has

_kinds: st.SearchStrategy[Any] = st.deferred(
    lambda: st.one_of(
        st.sampled_from(
            [pa.string(), pa.large_string(), pa.int64(), pa.uint64(), pa.int8(), pa.bool_()]
        ),
        st.sampled_from([pa.null(), pa.float64(), pa.dictionary(pa.int8(), pa.string())]),
        st.sampled_from([pa.list_, pa.large_list]).flatmap(lambda make: _kinds.map(make)),
        _kinds.map(lambda kind: pa.list_(kind, 2)),
        st.lists(_kinds, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{at}", kind) for at, kind in enumerate(kinds)])
        ),
    )
)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found: st.SearchStrategy[Any] = st.text(
            st.characters(exclude_categories=["Cs"]), max_size=5
        )
    elif pa.types.is_boolean(kind):
        found = st.booleans()
    elif pa.types.is_integer(kind):
        low = 0 if pa.types.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
        found = st.integers(low, low + 2**kind.bit_width - 1)
    elif pa.types.is_floating(kind):
        found = st.floats(allow_nan=False, allow_infinity=False)
    elif pa.types.is_null(kind):
        return st.none()
    elif pa.types.is_fixed_size_list(kind):
        found = st.lists(_values(kind.value_type), min_size=2, max_size=2)
    elif pa.types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: _values(field.type) for field in kind})
    else:
        found = st.lists(_values(kind.value_type), max_size=3)
    return st.none() | found


@given(data=st.data(), kind=_kinds, cut=st.integers(0, 5))
@settings(max_examples=80)
def test_values_of_any_shape_are_those_of_pyarrow_in_slices_too(data, kind, cut):
    array = pa.array(data.draw(st.lists(_values(kind), max_size=6)), type=kind)

    assert told(array) == array.to_pylist()
    assert told(array.slice(cut, 2)) == array.slice(cut, 2).to_pylist()


@each_kind
def test_a_file_gives_its_rows_in_order_with_their_places(tmp_path, kind):
    path = written(tmp_path / "data", pa.Table.from_pylist(ROWS), kind)

    records = records_of(path)

    assert [record.value for record in records] == pa.Table.from_pylist(ROWS).to_pylist()
    assert [record.number for record in records] == list(range(1, len(ROWS) + 1))
    assert [json.loads(record.text) for record in records] == [r.value for r in records]


def test_row_groups_and_parts_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_ROWS", 2)
    table = pa.Table.from_pylist(ROWS * 5)

    for kind, options in (("parquet", {"row_group_size": 3}), ("file", {}), ("stream", {})):
        path = written(tmp_path / "data", table, kind, **options)
        records = records_of(path)
        assert [record.value for record in records] == table.to_pylist()
        assert [record.number for record in records] == list(range(1, 36))


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "lz4", "none"])
def test_every_packing_of_parquet_is_read(tmp_path, codec):
    path = written(tmp_path / "data", pa.Table.from_pylist(ROWS), "parquet", compression=codec)

    assert values_of(path) == pa.Table.from_pylist(ROWS).to_pylist()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_packed_arrow_is_read(tmp_path, kind, codec):
    options = {"options": pa.ipc.IpcWriteOptions(compression=codec)}
    path = written(tmp_path / "data", pa.Table.from_pylist(ROWS), kind, **options)

    assert values_of(path) == pa.Table.from_pylist(ROWS).to_pylist()


@each_kind
def test_a_table_without_rows_or_columns_gives_what_it_has(tmp_path, kind):
    empty = written(tmp_path / "a", pa.table({"x": pa.array([], pa.int64())}), kind)
    bare = pa.table({"x": [1, 2]}).select([])

    assert values_of(empty) == []
    if kind != "parquet":  # which cannot say how many rows of nothing there are
        assert values_of(written(tmp_path / "b", bare, kind)) == [{}, {}]


def test_arguments_of_tools_that_a_table_fills_with_null_stand_as_they_are(tmp_path):
    rows = [{"call": {"arguments": {"city": "Rome"}}}, {"call": {"arguments": {"n": 3}}}]
    every = pa.struct([("city", pa.string()), ("n", pa.int64())])
    schema = pa.schema([("call", pa.struct([("arguments", every)]))])
    path = written(tmp_path / "data", pa.Table.from_pylist(rows, schema=schema), "parquet")

    assert values_of(path)[1] == {"call": {"arguments": {"city": None, "n": 3}}}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@each_kind
def test_numbers_that_are_not_finite_are_null_and_listed(tmp_path, kind, number):
    table = pa.table({"a": [{"b": [1.0, number]}, {"b": [2.0]}], "c": [1.5, 2.5]})

    first, second = records_of(written(tmp_path / "data", table, kind))

    assert first.value == {"a": {"b": [1.0, None]}, "c": 1.5}
    (found,) = first.non_finite
    assert found.path == ("a", "b", 1)
    assert second.value == {"a": {"b": [2.0]}, "c": 2.5}
    assert not second.non_finite


# Values that JSON has not


def test_text_columns_of_json_are_the_values_themselves(tmp_path):
    texts = ['{"a": [1, null]}', None, "not json", '{"x": NaN}', "123456789012345678901234567890"]
    table = pa.table({"x": pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))})
    path = written(tmp_path / "data", table, "parquet")

    records = records_of(path)

    assert [record.value["x"] for record in records] == [
        {"a": [1, None]},
        None,
        "not json",
        {"x": None},
        123456789012345678901234567890,
    ]
    assert [str(each) for each in records[3].non_finite] == ["x.x is NaN"]


@given(st.lists(st.none() | st.decimals(-(10**33), 10**33, places=4)))
def test_no_digit_of_a_decimal_is_lost(values):
    array = pa.array(values, pa.decimal128(38, 4)) if values else pa.array([], pa.decimal128(9, 4))

    for value, said in zip(values, told(array), strict=True):
        assert (said is None) == (value is None)
        if value is not None:
            assert Decimal(said if isinstance(said, str) else repr(said)) == value


def test_decimals_without_places_are_whole_numbers_of_any_size():
    numbers = [10**37 + 1, -5, None]

    assert told(pa.array(numbers, pa.decimal128(38, 0))) == numbers
    assert told(pa.array([10**70 + 3], pa.decimal256(76, 0))) == [10**70 + 3]
    assert told(pa.array([Decimal("1.50")], pa.decimal128(5, 2))) == [1.5]
    assert told(pa.array([Decimal("0." + "1" * 30)], pa.decimal128(38, 30))) == ["0." + "1" * 30]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@given(values=st.lists(st.none() | st.binary(max_size=8), max_size=5))
@settings(max_examples=30)
def test_no_byte_is_lost(kind, values):
    for value, said in zip(values, told(pa.array(values, kind)), strict=True):
        if value is None:
            assert said is None
        elif said.startswith("base64:"):
            assert base64.b64decode(said.removeprefix("base64:")) == value
        else:
            assert said.encode() == value


def test_bytes_that_are_text_are_told_as_text():
    assert told(pa.array([b'{"a": 1}', b"\xff\x00"])) == ['{"a": 1}', "base64:/wA="]


@given(st.lists(st.none() | st.datetimes(), max_size=4), st.sampled_from(["us", "ns", "ms", "s"]))
@settings(max_examples=50)
def test_times_are_told_in_iso_form_with_their_digits(values, unit):
    kept = [value for value in values if value is None or 1700 < value.year < 2200]
    array = pa.array(kept, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False)

    for value, said in zip(array.cast(pa.timestamp("us")).to_pylist(), told(array), strict=True):
        assert said is None if value is None else datetime.datetime.fromisoformat(said) == value


def test_times_in_a_zone_are_told_in_utc_and_others_in_their_own_way():
    noon = datetime.datetime(
        2026, 11, 22, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=1))
    )

    assert told(pa.array([noon], pa.timestamp("ms", "+01:00"))) == ["2026-11-22T11:00:00.000Z"]
    assert told(pa.array([noon], pa.timestamp("s", "No/Where"))) == ["2026-11-22T11:00:00Z"]
    assert told(pa.array([1], pa.timestamp("ns"))) == ["1970-01-01T00:00:00.000000001"]
    assert told(pa.array([2**62], pa.timestamp("s"))) == [2**62]  # no calendar has that day
    assert told(pa.array([datetime.date(2026, 11, 22), None])) == ["2026-11-22", None]
    assert told(pa.array([1_500], pa.time32("ms"))) == ["00:00:01.500"]
    assert told(pa.array([1_500, -1, 0], pa.duration("ms"))) == ["PT1.5S", "PT-0.001S", "PT0S"]
    assert told(pa.array([(1, 2, 3)], pa.month_day_nano_interval())) == [[1, 2, 3]]


def test_maps_are_objects_where_their_keys_are_text_that_stands_once():
    texts = pa.map_(pa.string(), pa.list_(pa.int8()))
    numbers = pa.map_(pa.int8(), pa.string())

    assert told(pa.array([[("a", [1]), ("b", None)], None, []], texts)) == [
        {"a": [1], "b": None},
        None,
        {},
    ]
    assert told(pa.array([[("a", [1]), ("a", [2])]], texts)) == [
        [{"key": "a", "value": [1]}, {"key": "a", "value": [2]}]
    ]
    assert told(pa.array([[(1, "x")]], numbers)) == [[{"key": 1, "value": "x"}]]


def test_rarer_kinds_are_told_too():
    words = pa.array(["a", None, "b", "a"]).dictionary_encode()
    name = uuid.UUID(int=7)
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([name.bytes], pa.binary(16)))
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, None], pa.int8()))
    union = pa.UnionArray.from_dense(
        pa.array([0, 1], pa.int8()),
        pa.array([0, 0], pa.int32()),
        [pa.array([1]), pa.array([b"\xff"])],
    )

    assert told(words) == told(words.slice(0)) == ["a", None, "b", "a"]
    assert told(pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"])) == ["x", "x", "y"]
    assert told(pa.array([[1], None], pa.list_view(pa.int8()))) == [[1], None]
    assert told(pa.array([1.5, None], pa.float16())) == [1.5, None]
    assert told(pa.array(["a", None], pa.string_view())) == ["a", None]
    assert told(uuids) == [str(name)]
    assert told(flags) == [False, True, None]
    assert told(union) == [1, "base64:/w=="]
    assert told(pa.array([{}, None], pa.struct([]))) == [{}, None]


def test_a_dataset_saved_with_its_own_features_comes_back(tmp_path):
    from datasets import Dataset

    rows = [{"messages": [{"role": "user", "content": "hi"}], "n": n} for n in range(3)]
    Dataset.from_list(rows).to_parquet(tmp_path / "data.parquet")

    assert values_of(tmp_path / "data.parquet") == rows


# Damage


def with_spoilt_text() -> pa.Table:
    spoilt = pa.array([b"one", b"t\xffo", b"three", b"four"])
    text = pa.Array.from_buffers(pa.string(), 4, spoilt.buffers())
    nested = pa.ListArray.from_arrays([0, 1, 2, 3, 4], pa.StructArray.from_arrays([text], ["x"]))
    return pa.table({"plain": [1, 2, 3, 4], "nested": nested})


def test_text_that_is_not_utf8_costs_its_row_of_parquet_alone(tmp_path):
    records = records_of(written(tmp_path / "data", with_spoilt_text(), "parquet"))

    assert [record.value for record in records] == [
        {"plain": 1, "nested": [{"x": "one"}]},
        None,
        {"plain": 3, "nested": [{"x": "three"}]},
        {"plain": 4, "nested": [{"x": "four"}]},
    ]
    assert "cannot be read" in records[1].fault
    assert json.loads(records[1].text)["plain"] == 2


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_text_that_is_not_utf8_costs_its_batch_of_arrow(tmp_path, kind):
    path = written(tmp_path / "data", pa.concat_tables([with_spoilt_text()] * 2), kind)

    records = records_of(path)

    # Batches of three, one, three and one.
    assert [bool(record.fault) for record in records] == [True, False, True, False]
    assert records[0].fault.startswith("rows 1 to 3 cannot be read: ")
    assert records[2].fault.startswith("rows 5 to 7 cannot be read: ")
    assert [record.value["plain"] for record in records[1::2]] == [4, 4]
    assert [record.number for record in records] == [1, 4, 5, 8]


@each_kind
def test_a_name_that_stands_twice_is_refused(tmp_path, kind):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    inner = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["b", "b"])

    for each in (table, pa.table({"x": pa.ListArray.from_arrays([0, 1], inner)})):
        with pytest.raises(DataError, match=r"two columns or fields of the name '[ab]'") as caught:
            records_of(written(tmp_path / "data", each, kind))
        assert caught.value.hint


def test_a_damaged_row_group_is_one_fault_and_the_next_one_is_read(tmp_path):
    table = pa.table({"x": [f"text {i}" for i in range(30)]})
    options = {"row_group_size": 10, "compression": "zstd", "use_dictionary": False}
    path = written(tmp_path / "data", table, "parquet", **options)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)

    records = records_of(path)

    sound = [record.value["x"] for record in records if not record.fault]
    (lost,) = [record for record in records if record.fault]
    assert sound == [f"text {i}" for i in (*range(10), *range(20, 30))]
    assert lost.number == 11
    assert lost.fault.startswith("rows 11 to 20 cannot be read: ")


def test_a_damaged_batch_of_an_arrow_file_is_one_fault_and_the_next_one_is_read(tmp_path):
    table = pa.table({"x": [f"text {i} " * 50 for i in range(9)]})
    options = {"options": pa.ipc.IpcWriteOptions(compression="zstd")}
    path = written(tmp_path / "data", table, "file", **options)
    data = path.read_bytes()
    frames = [at for at in range(len(data)) if data.startswith(b"\x28\xb5\x2f\xfd", at)]
    assert len(frames) == 6  # the places and the letters of three batches
    path.write_bytes(data[: frames[3]] + bytes(8) + data[frames[3] + 8 :])

    records = records_of(path)

    assert [record.value and record.value["x"][:6] for record in records] == [
        *("text 0", "text 1", "text 2"),
        None,
        *("text 6", "text 7", "text 8"),
    ]
    assert [record.number for record in records] == [1, 2, 3, 4, 5, 6, 7]
    assert records[3].fault.startswith("what begins with row 4 cannot be read: ")


def test_a_stream_cut_off_keeps_the_batches_before(tmp_path):
    data = arrow(ROWS, is_stream=True, batch=2)
    (tmp_path / "data").write_bytes(data[: len(data) * 2 // 3])

    records = records_of(tmp_path / "data")

    assert 2 <= len(records) < len(ROWS)
    assert [record.value for record in records[:2]] == ROWS[:2]
    assert f"what begins with row {len(records)} cannot be read" in records[-1].fault
    assert not [record for record in records[:-1] if record.fault]


@pytest.mark.parametrize("data", [parquet(ROWS), arrow(ROWS, is_stream=False)])
def test_a_file_without_its_footer_is_said_to_be_damaged(tmp_path, data):
    (tmp_path / "data").write_bytes(data[:-20])

    with pytest.raises(DataError, match="is damaged") as caught:
        records_of(tmp_path / "data")

    assert caught.value.hint


def test_no_row_group_is_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_PART", 1 << 18)
    rows = [{"text": random.Random(i).randbytes(5000).hex()} for i in range(3000)]
    table = pa.Table.from_pylist(rows)
    pages = {"use_dictionary": False, "write_batch_size": 10}  # pages of a megabyte
    path = written(tmp_path / "data", table, "parquet", **pages)
    del rows, table
    before, peak = pa.total_allocated_bytes(), 0

    for record in open_source(path).records():
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert len(record.value["text"]) == 10_000

    assert path.stat().st_size > 15 << 20
    assert peak < 8 << 20


def test_rows_of_very_many_bytes_are_taken_one_by_one(monkeypatch):
    monkeypatch.setattr(tables, "_PART", 1000)

    assert tables._rows_at_once(10_000_000, 100) == 1
    assert tables._rows_at_once(1000, 100) == 100
    assert tables._rows_at_once(10, 10**9) == tables._MOST_ROWS
    assert tables._rows_at_once(0, 0) > 0

"""Laws of the container of `.eval` files: every sample comes, whatever the archive holds."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.formats.rows import SAMPLES, detected
from trajweight.containers import inspect_log
from trajweight.errors import DataError, MissingError
from trajweight.formats.inspect_ai import LOG, Inspect

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.records import Record

EVAL = SAMPLES / "inspect.eval"
DOCUMENT = json.loads((SAMPLES / "inspect.json").read_text("utf-8"))
HEADER = {key: value for key, value in DOCUMENT.items() if key != "samples"}
CAN_ZSTD = hasattr(zipfile, "ZIP_ZSTANDARD") or importlib.util.find_spec("inspect_ai") is not None


def archive(path: Path, entries: list[tuple[str, Any]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive with these entries; text is written as it is, other values as JSON."""
    with zipfile.ZipFile(path, "w", method) as made:
        for name, value in entries:
            made.writestr(name, value if isinstance(value, str) else json.dumps(value))
    return path


def with_method(path: Path, method: int, name: bytes) -> None:
    """Let an archive claim that an entry is packed by another method."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = -1
        while (start := data.find(mark, start + 1)) >= 0:
            header = 30 if mark == b"PK\x03\x04" else 46
            if data[start + header : start + header + len(name)] == name:
                data[start + at : start + at + 2] = method.to_bytes(2, "little")
    path.write_bytes(data)


def packed_by_zstd(path: Path, value: Any) -> Path:
    """A log whose one sample is packed by zstd, written without a library that writes such."""
    plain = json.dumps(value).encode()
    packed = pa.compress(plain, codec="zstd", asbytes=True)
    archive(path, [("header.json", HEADER)])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as made:
        made.writestr("samples/a_epoch_1.json", packed)
    with_method(path, 93, b"samples/a_epoch_1.json")
    # The sizes and the sum that the archive states are those of what is packed.
    data = bytearray(path.read_bytes())
    crc = zlib.crc32(plain).to_bytes(4, "little")
    size = len(plain).to_bytes(4, "little")
    local, central = data.find(b"PK\x03\x04samples"), -1
    local = data.rfind(b"PK\x03\x04")
    central = data.rfind(b"PK\x01\x02")
    data[local + 14 : local + 18], data[local + 22 : local + 26] = crc, size
    data[central + 16 : central + 20], data[central + 24 : central + 28] = crc, size
    path.write_bytes(data)
    return path


def records(path: Path) -> list[Record]:
    return list(inspect_log.open(path).records())


def test_a_log_gives_a_record_a_sample_and_itself_as_a_hint():
    source = inspect_log.open(EVAL)
    found = list(source.records())

    assert (source.path, source.container, source.hints) == (EVAL, "Inspect log", {LOG: HEADER})
    assert [record.number for record in found] == [1, 2, 3]
    assert [record.value for record in found] == DOCUMENT["samples"]
    assert [json.loads(record.raw or b"") for record in found] == DOCUMENT["samples"]
    assert detected([record.value for record in found], dict(source.hints)) == "inspect"


def test_an_archive_is_a_log_where_it_has_a_header_or_a_journal():
    assert inspect_log.holds_log(["header.json", "x"])
    assert inspect_log.holds_log(["_journal/start.json"])
    assert not inspect_log.holds_log(["samples/1_epoch_1.json", "data.jsonl"])


def test_a_log_that_was_cut_short_has_its_header_in_the_journal(tmp_path):
    sample = DOCUMENT["samples"][0]
    entries = [("_journal/start.json", HEADER), ("samples/a_epoch_1.json", sample)]

    source = inspect_log.open(archive(tmp_path / "a.eval", entries))

    assert source.hints == {LOG: HEADER}
    assert [record.value for record in source.records()] == [sample]


def test_a_log_without_samples_is_one_record_that_is_refused_in_words(tmp_path):
    (record,) = records(archive(tmp_path / "a.eval", [("header.json", HEADER)]))

    assert record.value == HEADER
    assert not Inspect().lacks(record.value)


def test_of_a_sample_written_twice_the_last_counts(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(
            tmp_path / "a.eval",
            [
                ("header.json", HEADER),
                ("samples/a_epoch_1.json", {"id": "old"}),
                ("samples/b_epoch_1.json", {"id": "b"}),
                ("samples/a_epoch_1.json", {"id": "new"}),
            ],
        )

    assert [record.value["id"] for record in records(path)] == ["new", "b"]


def test_names_that_lead_elsewhere_are_names_and_nothing_is_written(tmp_path):
    entries = [("header.json", HEADER), ("samples/../../b.json", {"id": 1}), ("../c.json", {})]
    path = archive(tmp_path / "a.eval", entries)

    assert [record.value for record in records(path)] == [{"id": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_sample_costs_one_record(tmp_path):
    entries = [
        ("header.json", HEADER),
        ("samples/a.json", "{"),
        ("samples/b.json", '{"id": 1, "x": NaN}'),
    ]
    one, other = records(archive(tmp_path / "a.eval", entries))

    assert one.fault.startswith("not JSON")
    assert (other.value, other.fault) == ({"id": 1, "x": None}, "")
    assert [str(each) for each in other.non_finite] == ["x is NaN"]


def test_damaged_bytes_cost_one_record(tmp_path):
    entries = [("header.json", HEADER), ("samples/a.json", "7" * 999), ("samples/b.json", "{}")]
    path = archive(tmp_path / "a.eval", entries, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"7" * 999, b"7" * 998 + b"8"))

    one, other = records(path)

    assert one.fault.startswith("samples/a.json cannot be unpacked: Bad CRC-32")
    assert other.value == {}


def test_what_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    bomb = archive(
        tmp_path / "a.eval", [("header.json", HEADER), ("samples/a.json", " " * 50_000_000)]
    )
    monkeypatch.setattr(inspect_log, "DOCUMENT_LIMIT", 1 << 20)
    (too_long,) = records(bomb)
    monkeypatch.undo()
    monkeypatch.setattr(inspect_log, "_TOO_WELL", 500)
    (too_well,) = records(bomb)

    assert "longer than" in too_long.fault
    assert too_well.fault == "samples/a.json is packed 500 times smaller, as no log is"


def test_an_archive_that_lies_about_sizes_gives_no_more_than_it_states(tmp_path):
    path = archive(tmp_path / "a.eval", [("header.json", HEADER), ("samples/a.json", " " * 99_999)])
    stated, real = (10).to_bytes(4, "little"), (99_999).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(real, stated))

    (record,) = records(path)

    assert record.fault  # the checksum of ten bytes is not that of all


def test_entries_that_overlap_are_refused(tmp_path):
    path = archive(
        tmp_path / "a.eval", [("header.json", HEADER), ("samples/a.json", "x" * 5000)], 0
    )
    central = path.read_bytes().rfind(b"PK\x01\x02")
    data = bytearray(path.read_bytes())
    data[central + 20 : central + 24] = (1 << 20).to_bytes(4, "little")
    path.write_bytes(data)

    with pytest.raises(DataError, match="overlap"):
        records(path)


def test_methods_that_inspect_does_not_write_are_named(tmp_path):
    entries = [("header.json", HEADER), ("samples/a.json", "{}")]
    path = archive(tmp_path / "a.eval", entries)
    with_method(path, 12, b"samples/a.json")

    (record,) = records(path)

    assert record.fault == "samples/a.json is packed by method 12"


def test_zstd_is_read_where_something_can_and_else_the_package_is_named(tmp_path):
    path = packed_by_zstd(tmp_path / "a.eval", DOCUMENT["samples"][0])

    if CAN_ZSTD:
        assert [record.value for record in records(path)] == [DOCUMENT["samples"][0]]
    else:
        with pytest.raises(MissingError) as caught:
            records(path)
        assert caught.value.hint == "pip install 'trajweight[inspect]'"


def test_without_the_package_zstd_is_missing_and_named(tmp_path, monkeypatch):
    path = packed_by_zstd(tmp_path / "a.eval", DOCUMENT["samples"][0])
    monkeypatch.setattr(inspect_log, "zipfile", object())  # as one that does not know zstd
    for name in ("inspect_ai", "inspect_ai.log"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed

    with pytest.raises(MissingError, match="packed by zstd") as caught:
        records(path)

    assert str(path) in caught.value.message
    assert caught.value.hint == "pip install 'trajweight[inspect]'"


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match="no Inspect log"):
        inspect_log.open(archive(tmp_path / "a.zip", [("data.jsonl", "{}")]))
    with pytest.raises(DataError, match=r"header\.json cannot be read"):
        inspect_log.open(archive(tmp_path / "b.zip", [("header.json", "{")]))


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_its_bytes_a_log_is_read_or_refused(data, tmp_path_factory):
    whole = EVAL.read_bytes()
    path = tmp_path_factory.mktemp("log") / "a.eval"
    how = data.draw(st.sampled_from(["cut", "flip", "both"]))
    changed = bytearray(whole)
    if how != "cut":
        for _ in range(data.draw(st.integers(1, 8))):
            changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    if how != "flip":
        changed = changed[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(changed)

    try:
        found = records(path)
    except (DataError, MissingError):
        return
    assert all(record.fault or record.value is not None for record in found)


def test_an_archive_of_a_newer_kind_is_not_called_damaged(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("header.json", "{}")
    data = bytearray(stream.getvalue())
    data[data.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to unpack it
    path = tmp_path / "new.eval"
    path.write_bytes(data)

    with pytest.raises(DataError, match=r"of a kind that cannot be read here: .* 9\.9"):
        inspect_log.open(path)

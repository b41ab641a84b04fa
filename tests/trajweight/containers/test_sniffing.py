"""Laws of sniffing: a file is what its bytes are, whatever it is called."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.containers.given import CONTAINERS, PACKINGS, ROWS, values_of
from trajweight.containers import open_source, sniffing
from trajweight.containers.sniffing import container_of
from trajweight.errors import DataError

NOWHERE = Path("data")


def seen(data: bytes) -> str:
    head = data[: sniffing.HEAD]
    return container_of(head, NOWHERE, is_all=len(head) == len(data))


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_container_in_every_packing_gives_the_same_rows_whatever_its_name(
    tmp_path, name, packing
):
    container = name.partition(",")[0]
    path = tmp_path / "data.txt"
    path.write_bytes(PACKINGS[packing](CONTAINERS[name]))

    if packing != "plain" and container in ("Parquet", "Arrow file"):
        with pytest.raises(DataError, match=f"is {container} packed by {packing}") as caught:
            values_of(path)
        assert caught.value.hint
    else:
        assert values_of(path) == ROWS
        assert open_source(path).container == container


@pytest.mark.parametrize(
    ("text", "container"),
    [
        ("", "JSON lines"),
        ("\n \n", "JSON lines"),
        ('{"a": 1}', "JSON lines"),
        ('{"a": 1}\n', "JSON lines"),
        ('\n\n{"a": 1}\n{"a": 2}\n', "JSON lines"),
        ('{"a": NaN}\n{"a": 2}\n', "JSON lines"),
        ('{"a": \n{"a": 2}\n{"a": 3}\n', "JSON lines"),
        ('{"a": [\n{"a": 2,\n{"a": 3}\n{"a": 4}\n', "JSON lines"),
        ('{"a": 2]\n', "JSON lines"),
        ('"text"\n7\n', "JSON lines"),
        ("# a comment\n{}\n", "JSON lines"),
        ("{\n}", "JSON document"),
        ('{\n  "a": 1\n}\n{\n  "a": 2\n}', "JSON document"),
        ('{"a": 1}{"a": 2}', "JSON document"),
        ('{"rows": [\n{"a": 1},\n{"a": 2}\n]}', "JSON document"),
        ('{"rows": [\n{"a": 1}\n]}', "JSON document"),
        ('{\n  "a": 1,\n  "b": \n', "JSON document"),
        ('[{"a": 1}]', "JSON array"),
        ('[{"a": 1},\n{"a": 2}]', "JSON array"),
        ("[\n1\n]", "JSON array"),
        ("[1]\n\n", "JSON array"),
        ("[1]\n[2]\n", "JSON lines"),
        ("[1, 2]\n[3, 4]", "JSON lines"),
        ("[1, 2\n[3, 4]", "JSON array"),
    ],
)
def test_lines_documents_and_arrays_are_told_apart(text, container):
    assert seen(text.encode()) == container
    assert seen(b"\xef\xbb\xbf" + text.encode()) == container


@pytest.mark.parametrize("size", [10, sniffing.HEAD, 5 * sniffing.HEAD])
def test_size_changes_nothing(size):
    rows = [{"text": "x" * size, "n": i} for i in range(3)]

    assert seen(b"\n".join(json.dumps(row).encode() for row in rows)) == "JSON lines"
    assert seen(json.dumps(rows).encode()) == "JSON array"
    assert seen(json.dumps(rows, indent=1).encode()) == "JSON array"
    assert seen(json.dumps({"rows": rows}, indent=1).encode()) == "JSON document"
    many = [{"n": i, "text": "x" * (size // 50)} for i in range(200)]
    text = "\n".join(json.dumps(row) for row in many)
    assert seen(('{"broken": [\n' + text).encode()) == "JSON lines"
    assert seen(json.dumps({"rows": many}, indent=0).encode()) == "JSON document"


_tar = io.BytesIO()
with tarfile.open(fileobj=_tar, mode="w") as archive:
    archive.addfile(tarfile.TarInfo("a.jsonl"))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        ('{"a": 1}'.encode("utf-16-le"), "UTF-16"),
        ('{"a": 1}'.encode("utf-16-be"), "UTF-16"),
        ('{"a": 1}'.encode("utf-32"), "UTF-16 or UTF-32"),
        (b"SQLite format 3\x00....", "an SQLite database"),
        (b"7z\xbc\xaf\x27\x1c....", "a 7z archive"),
        (b"PARE....", "an encrypted Parquet file"),
        (_tar.getvalue(), "a tar archive"),
        (pickle.dumps({"a": 1}, protocol=4), "a Python pickle"),
        (gzip.compress(b"{}", mtime=0), "packed twice"),
    ],
)
def test_what_is_known_and_not_read_is_named_with_what_to_do(data, name):
    with pytest.raises(DataError, match=f"^data: is .*{name}") as caught:
        seen(data)

    assert caught.value.hint


@given(st.binary(max_size=300))
def test_any_bytes_are_something_or_refused(data):
    for is_all in (True, False):
        with contextlib.suppress(DataError):
            assert container_of(data, NOWHERE, is_all=is_all)

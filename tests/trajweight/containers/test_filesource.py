"""Laws of a source: read in one pass, hashed on the way, standard input as good as a file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.trajweight.containers.given import CONTAINERS, PACKINGS, ROWS, json_lines, parquet
from trajweight.containers import STDIN, open_source
from trajweight.errors import DataError
from trajweight.manifest import input_facts

if TYPE_CHECKING:
    from trajweight.containers import Source


def rows(source: Source) -> list[Any]:
    return [record.value for record in source.records()]


@pytest.fixture
def stdin(monkeypatch):
    def give(data: bytes) -> Source:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return open_source(STDIN)

    return give


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_what_is_said_of_a_file_that_was_read_is_what_a_second_look_says(tmp_path, name, packing):
    if packing != "plain" and name in ("Parquet", "Arrow file"):
        return
    path = tmp_path / "data"
    path.write_bytes(PACKINGS[packing](CONTAINERS[name]))
    source = open_source(path)

    assert source.facts() == {**input_facts(path), "sha256": None}
    assert rows(source) == ROWS
    assert source.facts() == input_facts(path)


@pytest.mark.parametrize("name", [name for name in CONTAINERS if name.startswith("JSON")])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, name):
    path = tmp_path / "data"
    path.write_bytes(b"\xef\xbb\xbf" + CONTAINERS[name])
    source = open_source(path)

    assert rows(source) == ROWS
    assert source.facts() == input_facts(path)


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_hash_is_claimed_of_a_file_that_was_not_read_to_its_end(tmp_path, name):
    path = tmp_path / "data"
    path.write_bytes(CONTAINERS[name])
    source = open_source(path)

    records = source.records()
    next(records)
    assert source.facts()["sha256"] is None
    del records
    assert source.facts()["sha256"] is None

    rows(source)
    assert source.facts()["sha256"] == input_facts(path)["sha256"]
    next(source.records())
    assert source.facts()["sha256"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"[1, 2] and much more" + b" " * 300_000 + b"end",
        b'{"a": \n1}\n}\n' + b"x" * 300_000,
        PACKINGS["gzip"](json_lines(ROWS)) + b"garbage" * 1000,
        PACKINGS["gzip"](json_lines(ROWS))[:-3],
        PACKINGS["xz"](json_lines(ROWS))[:-7],
        PACKINGS["zstd"](json_lines(ROWS)) + b"garbage" * 1000,
    ],
)
def test_what_is_damaged_is_hashed_whole(tmp_path, data):
    path = tmp_path / "data"
    path.write_bytes(data)
    source = open_source(path)

    records = list(source.records())

    assert records[-1].fault
    assert source.facts() == input_facts(path)


def test_no_hash_is_claimed_of_a_table_that_changed_while_it_was_read(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet(ROWS))
    source = open_source(path)

    for record in source.records():
        if record.number == 1:
            os.utime(path, ns=(1, 1))

    assert source.facts()["sha256"] is None


def test_a_log_of_inspect_is_a_source_like_any_other(tmp_path):
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {}}))
        archive.writestr("samples/1_epoch_1.json", json.dumps({"id": 1, "epoch": 1}))

    source = open_source(path)

    assert source.facts() == {**input_facts(path), "sha256": None}
    assert rows(source) == [{"id": 1, "epoch": 1}]
    assert source.facts() == input_facts(path)
    assert (source.path, source.within, source.comes_once) == (path, None, False)


@pytest.mark.parametrize("holds", [[], ["a.jsonl"], ["../../etc/x", "b/"], list("abcdefgh")])
def test_any_other_zip_is_refused_with_what_it_holds_and_nothing_is_unpacked(tmp_path, holds):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in holds:
            archive.writestr(name, "{}")

    with pytest.raises(DataError, match="is a zip archive and no Inspect log; it holds") as caught:
        open_source(path)

    for name in holds[:1]:
        assert repr(name) in str(caught.value)
    assert ("3 more" in str(caught.value)) == (len(holds) == 8)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_no_source(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        open_source(tmp_path)


# Standard input, and pipes


@pytest.mark.parametrize(
    "name", [each for each in CONTAINERS if each not in ("Parquet", "Arrow file")]
)
@pytest.mark.parametrize("packing", PACKINGS)
def test_standard_input_is_read_like_a_file(stdin, name, packing):
    data = PACKINGS[packing](CONTAINERS[name])
    source = stdin(data)

    assert source.comes_once
    assert source.facts() == {"path": "-", "bytes": None, "sha256": None}
    assert source.container == name.partition(",")[0]
    assert rows(source) == ROWS
    digest = hashlib.sha256(data).hexdigest()
    assert source.facts() == {"path": "-", "bytes": len(data), "sha256": digest}


@pytest.mark.parametrize("name", ["Parquet", "Arrow file"])
def test_what_must_be_read_from_several_places_cannot_come_through_a_pipe(stdin, name):
    with pytest.raises(
        DataError, match=f"gives {name}, which cannot be read from a pipe"
    ) as caught:
        rows(stdin(CONTAINERS[name]))

    assert caught.value.hint


def test_a_zip_archive_cannot_come_through_a_pipe(stdin):
    with pytest.raises(DataError, match="comes through a pipe"):
        rows(stdin(b"PK\x03\x04 and so on"))


def test_standard_input_is_read_only_once(stdin):
    source = stdin(json_lines(ROWS))
    rows(source)

    with pytest.raises(DataError, match="was read before"):
        rows(source)


def test_where_there_is_no_standard_input_it_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(DataError, match="there is no standard input"):
        rows(open_source(STDIN))


def test_a_pipe_in_the_file_system_is_read_as_it_comes(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(json_lines(ROWS) * 2000,))
    source = open_source(path)
    assert source.facts()["bytes"] is None

    writer.start()
    found = rows(source)
    writer.join()

    assert found == ROWS * 2000
    assert source.facts()["bytes"] == len(json_lines(ROWS)) * 2000


def test_a_source_of_a_file_can_be_sent_to_another_process(tmp_path):
    (tmp_path / "data.jsonl").write_bytes(json_lines(ROWS))
    source = open_source(tmp_path / "data.jsonl")
    assert source.container == "JSON lines"

    assert rows(pickle.loads(pickle.dumps(source))) == ROWS


def test_a_file_is_named_as_the_user_named_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_bytes(json_lines(ROWS))

    assert open_source(Path("data.jsonl")).facts()["path"] == "data.jsonl"

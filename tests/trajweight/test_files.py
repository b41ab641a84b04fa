from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from trajweight.errors import DataError, TrajweightError
from trajweight.files import json_line, sha256_of, write_atomically, write_jsonl


def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def breaks(stream) -> None:
        stream.write(b"half of the n")
        msg = "broken off"
        raise DataError(msg)

    with pytest.raises(DataError, match="broken off"):
        write_atomically(path, breaks)

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def interrupted(stream) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)

    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "c.bin", b"x")

    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"x"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_bytes(b"old")
    link.symlink_to(real)

    write_atomically(link, b"new")

    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_device_is_written_to_and_stays_a_device() -> None:
    write_atomically(Path(os.devnull), b"x")

    assert not Path(os.devnull).is_file()


def test_a_folder_cannot_be_written_over(tmp_path: Path) -> None:
    with pytest.raises(TrajweightError, match="cannot be written") as caught:
        write_atomically(tmp_path, b"x")

    assert caught.value.hint


def test_a_file_gets_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")

    write_atomically(tmp_path / "ours", b"")

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_come_back_and_the_bytes_are_the_same_twice(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "ä", "n": 2**80, "x": [1.5, None]},
        {"text": "lone \ud800 surrogate\u2028"},
    ]

    count = write_jsonl(tmp_path / "1" / name, rows)
    write_jsonl(tmp_path / "2" / name, iter(rows))

    data = (tmp_path / "1" / name).read_bytes()
    assert data == (tmp_path / "2" / name).read_bytes()
    text = gzip.decompress(data) if name.endswith("gz") else data
    assert [json.loads(line) for line in text.split(b"\n")[:-1]] == rows
    assert count == 2


def test_a_line_keeps_text_readable() -> None:
    assert json_line({"a": "é\n"}) == '{"a":"é\\n"}\n'.encode()


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read"):
        sha256_of(tmp_path / "gone.jsonl")

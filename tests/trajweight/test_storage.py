"""Laws of the rows on disk: what was taken comes back in its order, or is said to be wrong."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.errors import RunError, TrajweightError
from trajweight.storage import Batch, Storage
from trajweight.table import table_schema
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = table_schema()


def frame(*names: str) -> pl.DataFrame:
    """Rows of which only ids and texts tell anything."""
    rows = [
        {
            **dict.fromkeys(SCHEMA),
            "traj_id": name,
            "content_sha256": f"hash of {name}",
            "messages_json": f'["{name}"]',
            "extra_json": "{}",
        }
        for name in names
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def batch(*names: str, rejected: tuple[str, ...] = ()) -> Batch:
    lines = [{"path": "a", "line": 1, "reason": "r", "text": text} for text in rejected]
    return Batch(frame(*names), lines, 10 * len(names) + 10 * len(rejected))


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


def kept(storage: Storage) -> pl.DataFrame:
    return pl.concat(storage.batches(*TEXT_COLUMNS)).select(SCHEMA.names())


def one_by_one(storage: Storage) -> pl.DataFrame:
    look_up = storage.lookup(*TEXT_COLUMNS)
    n_rows = pl.read_parquet(storage.folder / "trajectories.parquet").height
    return pl.DataFrame([look_up(place) for place in range(n_rows)], schema=SCHEMA)


WAYS_TO_READ = pytest.mark.parametrize("read", [kept, one_by_one])


def texts_rejected(storage: Storage) -> list[str]:
    lines = (storage.folder / "rejected.jsonl").read_bytes().splitlines()
    return [json.loads(line)["text"] for line in lines]


NAMES = st.lists(st.text(max_size=3), max_size=4)


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4), max_size=3),
    part_rows=st.integers(1, 5),
    part_bytes=st.sampled_from([1, 25, 1000]),
    table_rows=st.integers(1, 5),
)
def test_what_was_taken_comes_back_in_order_however_it_was_cut(
    tmp_path_factory, groups, part_rows, part_bytes, table_rows
):
    storage = Storage(tmp_path_factory.mktemp("run"))
    groups = groups or [[([], [])]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trajweight.storage._PART_ROWS", part_rows)
        patch.setattr("trajweight.storage._PART_BYTES", part_bytes)
        patch.setattr("trajweight.storage._TABLE_ROWS", table_rows)
        for number in reversed(range(len(groups))):  # they may end in any order
            batches = (batch(*names, rejected=tuple(gone)) for names, gone in groups[number])
            assert storage.take(number, batches) == sum(len(names) for names, _ in groups[number])
        count = storage.settle(storage.waiting())

    names = [name for group in groups for kept, _ in group for name in kept]
    assert kept(storage).equals(frame(*names))
    assert one_by_one(storage).equals(frame(*names))
    assert count == len(names)
    assert texts_rejected(storage) == [text for each in groups for _, gone in each for text in gone]
    assert all(name.startswith("conversations/0") for name in files(storage.folder)[:-2])
    assert files(storage.folder)[-2:] == ["rejected.jsonl", "trajectories.parquet"]


def test_the_table_itself_holds_no_texts_and_each_text_comes_when_asked_for(tmp_path):
    storage = Storage(tmp_path)

    storage.save(frame("a", "b"))

    table = pl.read_parquet(tmp_path / "trajectories.parquet")
    assert not set(table.columns) & set(TEXT_COLUMNS)
    (found,) = storage.batches("messages_json")
    assert found.columns == [*table.columns, "messages_json"]
    assert found["messages_json"].to_list() == ['["a"]', '["b"]']


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        storage = Storage(folder, {"mark": "x"})
        storage.take(0, [batch("a"), batch("b", rejected=("c",))])
        storage.settle(storage.waiting())

    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if name.endswith(".parquet"):
            assert pl.read_parquet_metadata(tmp_path / "one" / name)["mark"] == "x"


def test_a_part_ends_with_the_batch_that_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr("trajweight.storage._PART_BYTES", 25)
    storage = Storage(tmp_path)

    storage.take(3, [batch("a", "b"), batch("c"), batch(rejected=("x", "y", "z")), batch("d")])

    assert files(tmp_path / "conversations") == ["00003-00000.parquet", "00003-00002.parquet"]


def broken(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_file_under_its_last_name(tmp_path, monkeypatch):
    storage = Storage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("trajweight.files.os.fsync", broken)

        with pytest.raises(TrajweightError, match="No space left") as caught:
            storage.take(0, [batch("a")])

    assert "room on its disk" in caught.value.hint
    assert files(tmp_path) == []


def test_a_full_disk_at_the_end_leaves_no_half_table(tmp_path, monkeypatch):
    storage = Storage(tmp_path)
    storage.take(0, [batch("a")])
    with monkeypatch.context() as patch:
        patch.setattr("trajweight.files.os.fsync", broken)
        with pytest.raises(TrajweightError, match="No space left"):
            storage.settle(storage.waiting())
    storage.clear()

    assert files(tmp_path) == []


@WAYS_TO_READ
def test_texts_of_other_rows_are_refused(tmp_path, read):
    storage, other = Storage(tmp_path), Storage(tmp_path / "other")
    storage.save(frame("a", "b"))
    other.folder.mkdir()
    other.save(frame("b", "a"))
    for path in other.conversations.iterdir():
        path.replace(storage.conversations / path.name)

    with pytest.raises(RunError, match="texts of other rows") as caught:
        read(storage)

    assert str(caught.value.path).endswith("00000-00000.parquet")
    assert "--force" in caught.value.hint


@WAYS_TO_READ
@pytest.mark.parametrize("n_gone", [1, 2])
def test_texts_that_are_missing_are_counted(tmp_path, monkeypatch, n_gone, read):
    monkeypatch.setattr("trajweight.storage._PART_ROWS", 1)
    storage = Storage(tmp_path)
    storage.take(0, [batch("a"), batch("b")])
    storage.settle(storage.waiting())
    for path in sorted(storage.conversations.iterdir())[2 - n_gone :]:
        path.unlink()

    with pytest.raises(RunError, match=rf"texts of {2 - n_gone} rows, but .* has 2"):
        read(storage)


@WAYS_TO_READ
def test_a_part_that_is_no_parquet_is_named(tmp_path, read):
    storage = Storage(tmp_path)
    storage.save(frame("a"))
    (path,) = storage.conversations.iterdir()
    path.write_text("nothing")

    with pytest.raises(RunError, match="no Parquet file that can be read"):
        read(storage)


def test_what_broke_off_is_cleared_and_what_is_not_ours_stays(tmp_path):
    storage = Storage(tmp_path)
    storage.take(0, [batch("a", rejected=("b",))])
    (storage.conversations / ".00000-00001.parquet.0a1b2c3d.part").write_text("half")
    (storage.conversations / "notes.txt").write_text("mine")

    storage.clear()

    assert files(tmp_path) == ["conversations/notes.txt"]
    (storage.conversations / "notes.txt").unlink()
    storage.clear()
    assert not storage.conversations.exists()

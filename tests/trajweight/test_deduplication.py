"""Laws of taking out copies: each names the row it copies, the rest stays as it was, sums hold."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from trajweight import deduplication
from trajweight.copies import near_copies
from trajweight.deduplication import find_duplicates, take_out
from trajweight.progress import Progress
from trajweight.reading import Layout, OriginLabels, read_into
from trajweight.storage import Storage
from trajweight.table import original_row
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.config import DedupName

WORDS = [f"w{n}" for n in range(60)]


def chat(name: str, text: str, *, source: str = "a", origin: str = "synthetic") -> dict[str, Any]:
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": text}]
    return {"id": name, "source": source, "origin": origin, "messages": messages}


def says(n: int, *, changed: int | None = None) -> str:
    """A text of its own for each number, one word of it changed."""
    words = [f"{word}-{n}" for word in WORDS]
    if changed is not None:
        words[changed] = "other"
    return " ".join(words)


ROWS = [
    chat("first", says(0)),
    "no JSON {",
    chat("alone", says(1)),
    chat("exact", says(0), source="b"),
    chat("near", says(0, changed=30), source="b"),
    chat("of-the-real-one", says(2), source="b"),
    chat("real", says(2), source="r", origin="real"),
    chat("exact-of-near", says(0, changed=30)),
    {"neither": "this"},
    chat("last", says(3)),
]


def stored(folder: Path, *, part_rows: int = 100) -> Storage:
    folder.mkdir()
    path = folder / "data.jsonl"
    texts = (row if isinstance(row, str) else json.dumps(row) for row in ROWS)
    path.write_text("".join(f"{text}\n" for text in texts))
    storage = Storage(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trajweight.storage._PART_ROWS", part_rows)
        patch.setattr("trajweight.rowreader._BATCH_ROWS", part_rows)
        read_into(storage, [path], labels=OriginLabels(), layout=Layout(), progress=Progress())
    return storage


def table(storage: Storage) -> pl.DataFrame:
    return pl.concat(storage.batches(*TEXT_COLUMNS))


def names(storage: Storage) -> list[str]:
    return table(storage)["traj_id"].to_list()


def taken(storage: Storage, dedup: DedupName) -> dict[str, str]:
    """Take copies out; the reasons by the ids of the rows."""
    before = list(storage.rejected())
    found = find_duplicates(storage, near=dedup == "near")
    take_out(storage, found.gone(dedup))
    after = list(storage.rejected())
    assert after[: len(before)] == before
    return {json.loads(row["text"])["id"]: row["reason"] for row in after[len(before) :]}


def test_exact_copies_go_and_name_the_row_that_stays(tmp_path: Path):
    storage = stored(tmp_path / "run")
    place = f"{tmp_path}/run/data.jsonl"

    reasons = taken(storage, "exact")

    assert reasons == {
        "exact": f"exact copy of row first at {place}:1",
        "of-the-real-one": f"exact copy of row real at {place}:7",
        "exact-of-near": f"exact copy of row near at {place}:5",
    }
    assert names(storage) == ["first", "alone", "near", "real", "last"]


def test_near_copies_go_too_and_their_exact_copies_name_a_row_that_stays(tmp_path: Path):
    storage = stored(tmp_path / "run")
    place = f"{tmp_path}/run/data.jsonl"

    reasons = taken(storage, "near")

    # of 59 runs of five words, those of the roles included, a changed word is in five
    near = f"near copy of row first at {place}:1 (similarity {54 / 64:.2f})"
    assert reasons == {
        "exact": f"exact copy of row first at {place}:1",
        "near": near,
        "of-the-real-one": f"exact copy of row real at {place}:7",
        "exact-of-near": near,
    }
    assert names(storage) == ["first", "alone", "real", "last"]


def test_nothing_is_taken_out_unasked(tmp_path: Path):
    storage = stored(tmp_path / "run")
    before = table(storage)

    assert taken(storage, "none") == {}
    assert table(storage).equals(before)


@pytest.mark.parametrize("part_rows", [1, 2, 3, 100])
@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_what_stays_is_as_it_was_however_it_lies_on_the_disk(
    tmp_path: Path, part_rows: int, dedup: DedupName
):
    storage = stored(tmp_path / "run", part_rows=part_rows)
    before = table(storage)

    reasons = taken(storage, dedup)

    expected = before.filter(~pl.col("traj_id").is_in(list(reasons)))
    assert table(storage).equals(expected)
    assert pl.read_parquet(storage.folder / "trajectories.parquet").height == expected.height
    n_rejected = len(list(storage.rejected()))
    assert expected.height + n_rejected == len(ROWS)


def test_every_row_still_has_its_own_number_among_the_rows_of_its_file(tmp_path: Path):
    storage = stored(tmp_path / "run")

    taken(storage, "near")

    rejected = {row["row"]: row["text"] for row in storage.rejected()}
    left = iter(table(storage).iter_rows(named=True))
    for number, row in enumerate(ROWS):
        text = rejected.get(number)
        if text is None:
            assert original_row(next(left)) == row
        else:
            assert text == row or json.loads(text) == row
    assert next(left, None) is None


def test_facts_count_copies_and_pairs_of_sources(tmp_path: Path):
    found = find_duplicates(stored(tmp_path / "run"), near=True)

    facts = found.facts("near")

    assert facts == {
        "exact": 3,
        "exact_by_source": [
            {"source": "a", "copies": "b", "n": 1},
            {"source": "b", "copies": "a", "n": 1},
            {"source": "b", "copies": "r", "n": 1},
        ],
        "near": 1,
        "near_by_source": [{"source": "b", "copies": "a", "n": 1}],
        "threshold": 0.8,
        "searched": "every pair of rows was compared",
        "removed": 4,
    }
    assert found.facts("none")["removed"] == 0
    told = "3 rows say word for word what another one says, kept; --dedup exact rejects them: "
    pairs = "1 of a copy b, 1 of b copy a, 1 of b copy r"
    assert found.notes("none")[0] == f"duplicates: {told}{pairs}"


def test_sketches_take_out_what_comparing_all_rows_takes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    by_all = taken(stored(tmp_path / "one"), "near")
    monkeypatch.setattr(deduplication, "near_copies", partial(near_copies, few_rows=0))
    by_sketch = taken(stored(tmp_path / "two"), "near")

    assert by_sketch == {
        name: reason.replace(f"{tmp_path}/one", f"{tmp_path}/two")
        for name, reason in by_all.items()
    }


def test_rows_without_copies_have_none(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data.jsonl").write_text(json.dumps(chat("one", "text")) + "\n")
    storage = Storage(folder)
    read_into(
        storage,
        [folder / "data.jsonl"],
        labels=OriginLabels(),
        layout=Layout(),
        progress=Progress(),
    )

    found = find_duplicates(storage, near=True)

    assert found.gone("near") == {}
    assert found.facts("near")["exact_by_source"] == []
    assert "0 rows nearly say" in found.notes("near")[0]
    assert find_duplicates(storage, near=False).notes("exact") == []

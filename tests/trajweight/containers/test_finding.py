"""Laws of finding: what the user names gives its files in order, and what is left out is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.trajweight.containers.given import ROWS, json_array, json_lines, parquet
from trajweight.containers import STDIN, sources_of, stem_of
from trajweight.errors import DataError

if TYPE_CHECKING:
    from trajweight.containers import Sources


def put(path: Path, content: Any = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_bytes(json_lines(content) if isinstance(content, list) else _json(content))
    return path


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def names(found: Sources, folder: Path) -> list[str]:
    return [str(source.path.relative_to(folder)) for source in found.sources]


def said(found: Sources, text: str) -> bool:
    return any(text in note for note in found.notes)


# Files and patterns


def test_a_file_is_itself_whatever_its_ending(tmp_path):
    path = put(tmp_path / "data.weird")

    (source,) = sources_of(path).sources

    assert source.path == path
    assert source.within is None
    assert [record.value for record in source.records()] == ROWS


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for name, what in (
        ("gone.jsonl", "no such file"),
        ("link", "is a link to"),
        ("*.x", "no file"),
    ):
        with pytest.raises(DataError, match=f"{what}") as caught:
            sources_of(tmp_path / name)
        assert caught.value.hint
        assert str(tmp_path / name) in str(caught.value)


def test_a_pattern_gives_the_files_of_its_names_in_order(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.txt", ".hidden.jsonl", "sub/d.jsonl", "x/y/e.jsonl"):
        put(tmp_path / name)

    flat = sources_of(tmp_path / "*.jsonl")
    deep = sources_of(tmp_path / "**" / "*.jsonl")

    assert names(flat, tmp_path) == ["a.jsonl", "b.jsonl"]
    assert names(deep, tmp_path) == ["a.jsonl", "b.jsonl", "sub/d.jsonl", "x/y/e.jsonl"]
    assert {source.within for source in flat.sources} == {tmp_path / "*.jsonl"}


def test_a_pattern_takes_other_endings_only_where_there_is_nothing_else(tmp_path):
    put(tmp_path / "a.jsonl")
    put(tmp_path / "b.txt")

    mixed = sources_of(tmp_path / "*")

    assert names(mixed, tmp_path) == ["a.jsonl"]
    assert said(mixed, "1 skipped, of other endings: ")
    assert names(sources_of(tmp_path / "*.txt"), tmp_path) == ["b.txt"]


def test_a_pattern_may_find_folders(tmp_path):
    put(tmp_path / "one" / "a.jsonl")
    put(tmp_path / "two" / "b.jsonl")

    assert names(sources_of(tmp_path / "*"), tmp_path) == ["one/a.jsonl", "two/b.jsonl"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    put(tmp_path / "a[1]*.jsonl")
    put(tmp_path / "a1.jsonl")

    assert names(sources_of(tmp_path / "a[1]*.jsonl"), tmp_path) == ["a[1]*.jsonl"]


# Folders


def test_a_folder_gives_every_file_of_a_known_ending_by_name(tmp_path):
    known = [
        "a.jsonl",
        "b.json.gz",
        "c.parquet",
        "d/a.NDJSON",
        "d/b.traj",
        "e.jsonl.zst",
        "f.arrow",
    ]
    for name in known:
        put(tmp_path / name)

    found = sources_of(tmp_path)

    assert names(found, tmp_path) == known
    assert not found.notes
    assert {source.within for source in found.sources} == {tmp_path}


def test_every_file_that_is_skipped_is_named_with_the_reason(tmp_path):
    put(tmp_path / "a.jsonl")
    put(tmp_path / "README.md")
    put(tmp_path / "sub" / "b.png")
    put(tmp_path / ".hidden" / "c.jsonl")
    put(tmp_path / "dataset_infos.json")
    put(tmp_path / "run" / "manifest.json", {"tool": "trajweight"})
    put(tmp_path / "run" / "rejected.jsonl")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jsonl")

    found = sources_of(tmp_path)

    assert names(found, tmp_path) == ["a.jsonl"]
    assert sorted(note.removeprefix(f"{tmp_path}: ") for note in found.notes) == [
        "1 skipped, hidden: .hidden",
        "1 skipped, indexes that hold no rows: dataset_infos.json",
        "1 skipped, links to nowhere: gone.jsonl",
        "1 skipped, neither files nor folders: pipe.jsonl",
        "1 skipped, runs of trajweight: run",
        f"2 skipped, of other endings: README.md, {Path('sub/b.png')}",
    ]


def test_very_many_skipped_files_are_counted(tmp_path):
    put(tmp_path / "a.jsonl")
    for i in range(30):
        put(tmp_path / f"{i:02}.png", b"")

    (note,) = sources_of(tmp_path).notes

    assert "30 skipped" in note
    assert note.endswith("19.png and 10 more")


def test_a_folder_of_nothing_is_an_error_that_says_what_was_skipped(tmp_path):
    put(tmp_path / "README.md")

    with pytest.raises(DataError, match=r"no file to read.*README\.md") as caught:
        sources_of(tmp_path)

    assert ".jsonl" in caught.value.hint


def test_a_run_of_ours_is_no_input(tmp_path):
    put(tmp_path / "manifest.json", {"tool": "trajweight"})
    put(tmp_path / "rejected.jsonl")

    with pytest.raises(DataError, match="is a run of trajweight"):
        sources_of(tmp_path)


def test_a_manifest_of_somebody_else_makes_no_run(tmp_path):
    put(tmp_path / "a.jsonl")
    put(tmp_path / "manifest.json", b"[1, 2")

    assert names(sources_of(tmp_path), tmp_path) == ["a.jsonl", "manifest.json"]


def test_links_are_followed_once_and_never_in_a_circle(tmp_path):
    put(tmp_path / "data" / "a.jsonl")
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "data" / "a.jsonl")
    (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
    put(tmp_path / "other" / "c.jsonl")
    (tmp_path / "data" / "there").symlink_to(tmp_path / "other")

    assert names(sources_of(tmp_path / "data"), tmp_path / "data") == ["a.jsonl", "there/c.jsonl"]


def test_a_link_to_itself_is_a_link_to_nowhere(tmp_path):
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    put(tmp_path / "a.jsonl")

    assert said(sources_of(tmp_path), "links to nowhere: loop.jsonl")
    put(tmp_path / "dataset_info.json", {"mine": {"file_name": "a.jsonl"}})
    assert names(sources_of(tmp_path), tmp_path) == ["a.jsonl"]
    with pytest.raises(DataError, match="is a link to"):
        sources_of(tmp_path / "loop.jsonl")


def test_a_name_that_no_file_can_have_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        sources_of(tmp_path / ("x" * 5000))


def test_a_folder_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    put(tmp_path / "sub" / "a.jsonl")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)

    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        sources_of(tmp_path)


# Datasets that were saved to disk


def saved(folder: Path, **splits: list[Any]) -> Path:
    from datasets import Dataset, DatasetDict

    made = {name: Dataset.from_list(rows) for name, rows in splits.items()}
    whole = DatasetDict(made) if list(splits) != ["all"] else made["all"]
    whole.save_to_disk(folder, num_shards=dict.fromkeys(made, 2) if len(made) > 1 else 2)
    return folder


def test_a_saved_dataset_gives_the_rows_that_datasets_gives(tmp_path):
    from datasets import load_from_disk

    folder = saved(tmp_path / "saved", all=ROWS)

    found = sources_of(folder)

    rows = [record.value for source in found.sources for record in source.records()]
    assert len(found.sources) == 2
    assert rows == load_from_disk(folder).to_list()
    assert found.indexes == [folder / "state.json"]


def test_the_splits_of_a_saved_dict_are_read_with_their_names(tmp_path):
    folder = saved(tmp_path / "saved", train=ROWS, test=ROWS[:3])
    put(tmp_path / "other.jsonl")

    found = sources_of(tmp_path)

    counts: dict[str | None, int] = dict.fromkeys(("train", "test", None), 0)
    for source in found.sources:
        counts[source.hints.get("split")] += sum(1 for _ in source.records())
    assert counts == {"train": len(ROWS), "test": 3, None: len(ROWS)}
    assert folder / "dataset_dict.json" in found.indexes


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"_data_files": [{"filename": "gone.arrow"}]}, "does not exist"),
        ({"_data_files": [{"filename": "../a.arrow"}]}, "names no files"),
        ({"_data_files": [3]}, "names no files"),
        ({"_data_files": "x"}, "names no files"),
        ({}, "names no files"),
        ({"_indices_files": [1], "_data_files": []}, "a selection of rows"),
    ],
)
def test_a_saved_dataset_that_is_not_whole_is_refused(tmp_path, state, why):
    put(tmp_path / "state.json", state)
    put(tmp_path / "dataset_info.json", {"features": {}})
    put(tmp_path / "a.arrow")

    with pytest.raises(DataError, match=why) as caught:
        sources_of(tmp_path)

    assert caught.value.hint


# LLaMA-Factory


def test_the_files_of_a_llama_factory_index_come_with_its_hints(tmp_path):
    entry = {"formatting": "sharegpt", "columns": {"messages": "chat"}, "tags": {"role_tag": "who"}}
    index = {
        "mine": {"file_name": "a.json", **entry},
        "plain": {"file_name": "b.jsonl"},
        "parts": {"file_name": "parts", "ranking": True},
        "hub": {"hf_hub_url": "somebody/something"},
        "gone": {"file_name": "gone.json"},
        "out": {"file_name": "../out.json"},
        "odd": {"file_name": 3},
    }
    put(tmp_path / "data" / "dataset_info.json", index)
    put(tmp_path / "data" / "a.json", json_array(ROWS))
    put(tmp_path / "data" / "b.jsonl")
    put(tmp_path / "data" / "parts" / "1.jsonl")
    put(tmp_path / "data" / "parts" / "2.parquet", parquet(ROWS))
    put(tmp_path / "data" / "c.jsonl")
    put(tmp_path / "out.json")

    found = sources_of(tmp_path / "data")

    hints = {
        str(source.path.relative_to(tmp_path / "data")): source.hints for source in found.sources
    }
    assert list(hints) == ["a.json", "b.jsonl", "parts/1.jsonl", "parts/2.parquet"]
    assert hints["a.json"] == {"dataset": "mine", "file_name": "a.json", **entry}
    assert hints["b.jsonl"]["formatting"] == "alpaca"
    assert hints["parts/2.parquet"]["ranking"] is True
    assert found.indexes == [tmp_path / "data" / "dataset_info.json"]
    assert said(found, "hub is not read: its rows are elsewhere (hf_hub_url)")
    assert said(found, "gone is not read: gone.json does not exist")
    assert said(found, "out is not read: ../out.json lies outside of the folder")
    assert said(found, "odd is not read: it names no file")
    assert said(found, "1 skipped, not named in dataset_info.json: c.jsonl")
    assert names(sources_of(tmp_path / "data" / "dataset_info.json"), tmp_path / "data") == list(
        hints
    )


def test_two_entries_of_one_file_are_read_once_and_said(tmp_path):
    entries = {"one": {"file_name": "a.jsonl"}, "two": {"file_name": "a.jsonl", "ranking": True}}
    put(tmp_path / "dataset_info.json", entries)
    put(tmp_path / "a.jsonl")

    found = sources_of(tmp_path)

    (source,) = found.sources
    assert source.hints["dataset"] == "one"
    assert said(found, "named more than once; read once")


@pytest.mark.parametrize("index", [{"features": {}, "splits": {}}, {}, [1], b"{", {"a": 1}])
def test_another_dataset_info_is_an_index_that_is_skipped(tmp_path, index):
    content = index if isinstance(index, bytes) else _json(index)
    put(tmp_path / "dataset_info.json", content)
    put(tmp_path / "a.jsonl")

    found = sources_of(tmp_path)

    assert names(found, tmp_path) == ["a.jsonl"]
    assert said(found, "indexes that hold no rows: dataset_info.json")


# tau2-bench


def test_a_tau2_folder_gives_each_simulation_as_a_document_with_what_is_said_of_all(tmp_path):
    about = {
        "info": {"seed": 1},
        "tasks": [{"id": "t"}],
        "simulation_index": [{"id": "s0"}, {"id": "s9"}],
    }
    put(tmp_path / "results.json", about)
    for i in range(3):
        put(tmp_path / "simulations" / f"s{i}.json", json.dumps({"id": f"s{i}"}, indent=2).encode())
    put(tmp_path / "simulations" / "s3.json", b'{"id": ')
    put(tmp_path / "log.txt", b"")

    for named in (tmp_path, tmp_path / "results.json"):
        found = sources_of(named)

        assert names(found, tmp_path) == [f"simulations/s{i}.json" for i in range(4)]
        assert found.indexes == [tmp_path / "results.json"]
        records = [record for source in found.sources for record in source.records()]
        assert [record.value for record in records[:3]] == [
            {**about, "simulations": [{"id": f"s{i}"}]} for i in range(3)
        ]
        assert records[3].fault
        assert said(found, "1 simulations have no file: s9")
        assert said(found, "log.txt") == (named == tmp_path)


def test_results_that_hold_their_simulations_are_a_file_like_any_other(tmp_path):
    put(tmp_path / "results.json", {"tasks": [], "simulations": [{"id": 1}]})
    put(tmp_path / "simulations" / "a.json", {"id": 2})

    assert names(sources_of(tmp_path), tmp_path) == ["results.json", "simulations/a.json"]


# Names


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/train.jsonl.gz", "train"),
        ("train.v2.json", "train.v2"),
        ("x.parquet", "x"),
        ("x.jsonl.zst", "x"),
        (".jsonl", ".jsonl"),
        ("plain", "plain"),
        ("-", "stdin"),
    ],
)
def test_rows_without_a_name_are_named_after_their_file(path, stem):
    assert stem_of(Path(path)) == stem
    assert Path("-") == STDIN

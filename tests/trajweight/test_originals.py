"""Laws of giving back: every file stands again as it stood, as JSON, in its container."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.test_remains import FORMS, plain, read
from trajweight import job
from trajweight.config import DataConfig
from trajweight.errors import ConfigError, DataError, RunError
from trajweight.formats import Item
from trajweight.jsontext import encode
from trajweight.originals import (
    Originals,
    RowBack,
    records_back,
    target_of,
    write_originals,
    write_records,
)
from trajweight.progress import Progress
from trajweight.records import Record
from trajweight.remains import Remains
from trajweight.run import load_run

if TYPE_CHECKING:
    from trajweight.run import Run


def back(items: list[Item]) -> list[RowBack]:
    return [
        RowBack(row, item.number, tuple(item.numbers), encode(item.value))
        for row, item in enumerate(items)
    ]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(FORMS))
def test_the_records_of_any_format_come_back_in_their_order(data, form):
    reads, values_of = form
    values = data.draw(st.lists(values_of, max_size=5))
    items, lines = read(values, reads)

    found = records_back(back(items), lines[1:], is_plain=False)

    assert list(found) == [encode(value) for value in values]


def test_rows_that_are_records_are_held_one_at_a_time():
    items, _ = read([{"n": 1}, {"n": 2}], plain)
    rows = iter(back(items))

    found = records_back(rows, [], is_plain=True)

    assert next(iter(found)) == '{"n":1}'
    assert next(rows).row == 1


def test_a_row_whose_text_was_lost_is_given_back_by_its_record():
    document = {"rows": [{"a": 1}, {"b": 2}]}
    remains = Remains("f", "JSON lines")
    record = Record(1, document, encode(document).encode())
    for each in remains.watched([record]):
        for n, row in enumerate(document["rows"]):
            remains.take(Item(row, n + 1, each, envelope={}), n, is_written=n > 0)

    lines = remains.last_lines()[1:]
    rows = [RowBack(0, 1, (), ""), RowBack(1, 2, (), '{"b":2}')]
    assert list(records_back(rows, lines, is_plain=False)) == [encode(document)]


RECORDS = ['{"a":1}', "[2]", '"é \\u2028"', "not JSON {"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_are_one_a_line(tmp_path: Path, name: str):
    path = tmp_path / "x" / name

    n = write_records(path, RECORDS, "JSON lines")

    data = path.read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    assert n == 4
    assert text == "".join(f"{record}\n" for record in RECORDS)


@pytest.mark.parametrize("records", [[], RECORDS[:1], RECORDS[:3]])
def test_an_array_is_an_array_again(tmp_path: Path, records: list[str]):
    write_records(tmp_path / "a.json", records, "JSON array")

    found: Any = json.loads((tmp_path / "a.json").read_text())
    assert found == [json.loads(record) for record in records]


def test_a_document_is_a_document_again(tmp_path: Path):
    write_records(tmp_path / "a.json", RECORDS[:1], "JSON document")

    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_files_stand_to_each_other_as_they_stood_and_never_outside_their_folder():
    sources = ["/data/x/a.jsonl", "/data/y/a.jsonl", "/data/../data/y/b.json"]

    targets = [target_of(each, sources, "JSON lines") for each in sources]

    assert targets == [PurePath("x/a.jsonl"), PurePath("y/a.jsonl"), PurePath("y/b.json")]
    assert target_of("a/../../b.jsonl", ["a/../../b.jsonl"], "JSON lines") == PurePath("b.jsonl")


@pytest.mark.parametrize(
    ("name", "container", "target"),
    [
        ("a.json.gz", "JSON array", "a.json.gz"),
        ("a.jsonl.zst", "JSON lines", "a.jsonl"),
        ("a.parquet", "Parquet", "a.parquet.jsonl"),
        ("log.eval", "Inspect log", "log.eval.jsonl"),
        ("-", "JSON lines", "standard-input.jsonl"),
    ],
)
def test_the_ending_says_what_is_written(name: str, container: str, target: str):
    assert target_of(name, [name], container) == PurePath(target)


# A run


SAMPLES = Path(__file__).parents[2] / "sample_data" / "formats"
DATA = sorted(path for path in SAMPLES.iterdir() if not path.name.startswith("."))


def ingested(out: Path, *paths: Path, **settings: Any) -> Run:
    data = DataConfig(paths=tuple(map(str, paths)), **settings)
    return job.ingest(data, out, force=False, progress=Progress())


def given_back(run: Run, out: Path, *, force: bool = False) -> Originals:
    return write_originals(run, out, force=force, progress=Progress())


def values_of(path: Path) -> list[Any]:
    """All values of a file of JSON, be it one, or one a line."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def same(one: list[Any], other: list[Any]) -> bool:
    """Equal with the order of keys, and 1 told from 1.0 and from true."""
    return [json.dumps(value) for value in one] == [json.dumps(value) for value in other]


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
@pytest.mark.parametrize("settings", [{}, {"repair": True, "dedup": "exact"}], ids=["plain", "all"])
def test_every_sample_of_every_format_comes_back_as_it_stood(
    tmp_path: Path, path: Path, settings: dict[str, Any]
):
    try:
        run = ingested(tmp_path / "run", path, **settings)
    except DataError:  # of tasks alone no row is kept, and all are given back all the same
        run = load_run(tmp_path / "run")

    found = given_back(run, tmp_path / "back")

    assert found.files
    for file in found.files:
        if file.is_same_kind:
            assert same(values_of(file.path), values_of(Path(file.source)))
        else:
            assert file.container == "Inspect log"
            assert len(values_of(file.path)) == file.n_records > 0


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 2.5, "", "[]", "<s>", [], {}, [None], [[]], {"role": "user"}]
)
LINES = [path for path in DATA if path.suffix == ".jsonl"]


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every holder in a value with each of its keys or positions."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    below = (
        place
        for key in keys
        if isinstance(value[key], dict | list) and value[key]
        for place in places_in(value[key])
    )
    return [*((value, key) for key in keys), *below]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(LINES), st.sampled_from(["none", "exact", "near"]))
def test_rows_with_anything_wrong_in_them_come_back(tmp_path_factory, data, path, dedup):
    folder = tmp_path_factory.mktemp("wrong")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for _ in range(data.draw(st.integers(1, 4))):
        holder, key = data.draw(st.sampled_from(places_in(rows)))
        if data.draw(st.booleans()):
            holder[key] = deepcopy(data.draw(JUNK))  # a later round may break it further
        else:
            del holder[key]
        if not rows:
            return
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    try:
        run = ingested(folder / "run", folder / "data.jsonl", repair=True, dedup=dedup)
    except DataError:
        if not (folder / "run" / "trajectories.parquet").exists():
            return  # of no known format any more
        run = load_run(folder / "run")

    counts = run.manifest()["counts"]
    (file,) = given_back(run, folder / "back").files

    assert counts["read"] == counts["kept"] + counts["rejected"]
    assert same([json.loads(line) for line in file.path.read_text().splitlines()], rows)


def chat(name: str, text: str = "ok", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": text}]
    return {"id": name, "messages": messages, **more}


def simulations(*names: str) -> dict[str, Any]:
    rows = [{**chat(name), "task_id": "t", "reward_info": {"reward": 1.0}} for name in names]
    return {"info": {"n": len(names)}, "simulations": rows, "tasks": [1.0, None]}


def test_rejected_and_repeated_rows_and_whole_documents_stand_where_they_stood(tmp_path: Path):
    lines = [
        json.dumps(chat("a")),
        '{"id": "broken", ',
        json.dumps(simulations("s0", "s1", "s0")),
        json.dumps({"neither": 1}),
        json.dumps(chat("a", x=[2**70, 1.0, True])),
        json.dumps(simulations("s2")),
        json.dumps(chat("b", "other")),
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))

    run = ingested(tmp_path / "run", path, dedup="exact", format="auto")
    (file,) = given_back(run, tmp_path / "back").files

    assert run.manifest()["counts"]["duplicates"]["removed"] > 0
    back = file.path.read_text().splitlines()
    assert len(back) == len(lines)
    for one, other in zip(back, lines, strict=True):
        assert one == other or same([json.loads(one)], [json.loads(other)])


def test_a_row_of_a_document_that_is_nested_too_deeply_to_be_kept_comes_back(tmp_path: Path):
    document = simulations("good", "deep")
    text = json.dumps(document).replace(
        '"id": "deep"', '"id": "deep", "x": ' + "[" * 400 + "]" * 400
    )
    path = tmp_path / "data.jsonl"
    path.write_text(f"{text}\n")

    run = ingested(tmp_path / "run", path)
    (file,) = given_back(run, tmp_path / "back").files

    (rejected,) = run.rows("rejected")
    assert "nested too deeply" in rejected["reason"]
    assert same(values_of(file.path), [json.loads(text)])


def test_an_array_a_packed_file_and_a_table_come_back_side_by_side(tmp_path: Path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    array, packed = tmp_path / "in" / "a.json", tmp_path / "in" / "deep" / "a.jsonl.gz"
    table = tmp_path / "in" / "b.parquet"
    array.write_text(json.dumps([chat("x"), {"no": 1}, chat("y")]))
    packed.write_bytes(gzip.compress(json.dumps(chat("z")).encode()))
    pl.DataFrame([chat("p")]).write_parquet(table)

    run = ingested(tmp_path / "run", array, packed, table)
    found = given_back(run, tmp_path / "back")

    places = [str(file.path.relative_to(tmp_path / "back")) for file in found.files]
    assert places == ["a.json", "deep/a.jsonl.gz", "b.parquet.jsonl"]
    assert same(values_of(found.files[0].path), values_of(array))
    assert same(values_of(found.files[1].path), [chat("z")])
    assert values_of(found.files[2].path) == [chat("p")]
    assert any("b.parquet was Parquet, which is not written" in note for note in found.notes)


def test_what_is_otherwise_is_told(tmp_path: Path):
    path = tmp_path / "data.jsonl"
    text = json.dumps(chat("a"))[:-1] + ', "loss": [NaN, 1e999]}'
    path.write_text(f"{text}\nno JSON\n{json.dumps(chat('c'))}\n")

    found = given_back(ingested(tmp_path / "run", path, limit=2), tmp_path / "back")

    assert found.notes == [
        "1 rejected rows are given back as they were kept in rejected.jsonl",
        "2 numbers that JSON does not know, such as NaN, are null",
        "the run read 2 rows of each file at most, so no more are given back",
    ]
    kept, broken = found.files[0].path.read_text().splitlines()
    assert json.loads(kept)["loss"] == [None, None]
    assert broken == "no JSON"


def test_two_files_that_would_go_to_one_place_go_to_two(tmp_path: Path):
    paths = [tmp_path / "a.parquet", tmp_path / "a.parquet.jsonl"]
    pl.DataFrame([chat("p")]).write_parquet(paths[0])
    paths[1].write_text(json.dumps(chat("q")))

    found = given_back(ingested(tmp_path / "run", *paths), tmp_path / "back")

    assert [values_of(file.path) for file in found.files] == [[chat("p")], [chat("q")]]
    assert len({file.path for file in found.files}) == 2


@pytest.mark.parametrize("place", ["run/back", "."], ids=["in the run", "over the source"])
def test_nothing_that_was_read_or_kept_is_written_over(tmp_path: Path, place: str):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(chat("a")))
    run = ingested(tmp_path / "run", path)

    with pytest.raises(ConfigError) as caught:
        given_back(run, tmp_path / place, force=True)

    assert "another --out" in caught.value.hint
    assert path.read_text() == json.dumps(chat("a"))


def test_a_file_that_is_there_is_written_over_by_force_only(tmp_path: Path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(chat("a")))
    run = ingested(tmp_path / "run", path)
    given_back(run, tmp_path / "back")

    with pytest.raises(ConfigError, match="already there"):
        given_back(run, tmp_path / "back")

    (file,) = given_back(run, tmp_path / "back", force=True).files
    assert values_of(file.path) == [chat("a")]


def test_a_run_that_kept_nothing_of_its_files_says_what_to_do(tmp_path: Path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(chat("a")))
    run = ingested(tmp_path / "run", path)
    (run.folder / "envelopes.jsonl").unlink()

    with pytest.raises(RunError, match="what its files were") as caught:
        given_back(run, tmp_path / "back")

    assert "again" in caught.value.hint

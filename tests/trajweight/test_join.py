from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import make_run, row
from trajweight.errors import ConfigError, DataError
from trajweight.join import join_weights
from trajweight.rows import Layout
from trajweight.weightbook import WeightBook

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

WEIGHTS = {"s0": 1.0, "s1": 2.0, "s2": 3.0, "s3": 4.0}
MEAN = 2.5


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(f"s{i}", text=f"reply {i}") for i in range(4)] + [row("v", source="real")]
    return make_run(tmp_path / "made", rows, WEIGHTS, splits={"v": "validation"})


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def said(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {**row(name, text=text), **more}


def test_the_data_a_run_was_made_from_gets_its_weights_and_loses_nothing(
    run: Run, tmp_path: Path
) -> None:
    joined = join_weights(run, [tmp_path / "made/data.jsonl"], tmp_path / "out.jsonl")

    rows = [row(f"s{i}", text=f"reply {i}") for i in range(4)]
    assert read(tmp_path / "out.jsonl") == [
        {**each, "weight": WEIGHTS[each["id"]] / MEAN} for each in rows
    ]
    assert joined.n_matched == {"id": 5}
    assert joined.n_without_weight == {"held out by the run": 1}
    assert joined.n_not_found == 0
    assert joined.mean_weight == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["s0", "s1", "s2", "s3", "v", "x"]), min_size=1, max_size=12).filter(
        lambda names: set(names) != {"x"}
    )
)
def test_every_row_and_every_weight_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("accounts")
    rows = [row(f"s{i}", text=f"reply {i}") for i in range(4)] + [row("v", source="real")]
    run = make_run(folder / "made", rows, WEIGHTS, splits={"v": "validation"})
    known = {each["id"]: each for each in rows}
    data = write(folder / "d.jsonl", [known.get(name, said(name, "else")) for name in names])

    joined = join_weights(run, [data], folder / "out.jsonl", unmatched="keep")

    found = read(folder / "out.jsonl")
    assert [each["id"] for each in found] == names
    assert [each["weight"] for each in found] == [
        WEIGHTS[name] / MEAN if name in WEIGHTS else None for name in names
    ]
    assert joined.n_read == joined.n_written == len(names)
    assert sum(joined.n_matched.values()) == len(names) - names.count("x")
    assert joined.n_not_found == len(set(WEIGHTS) - set(names))


def test_rows_without_a_weight_are_dropped_or_kept_with_null(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [said("s1", "reply 1"), said("new", "new"), said("v", "ok")])

    join_weights(run, [data], tmp_path / "a.jsonl")
    join_weights(run, [data], tmp_path / "b.jsonl", unmatched="keep")

    assert [each["id"] for each in read(tmp_path / "a.jsonl")] == ["s1"]
    assert [each["weight"] for each in read(tmp_path / "b.jsonl")] == [2.0 / MEAN, None, None]


def test_content_finds_a_row_whatever_it_is_called_and_in_whatever_format(
    run: Run, tmp_path: Path
) -> None:
    sharegpt = {
        "conversations": [{"from": "human", "value": "go"}, {"from": "gpt", "value": "reply 2"}]
    }
    data = write(tmp_path / "d.jsonl", [sharegpt])

    for by in ("auto", "content"):
        joined = join_weights(run, [data], tmp_path / f"{by}.jsonl", by=by)
        assert joined.n_matched == {"content": 1}
        assert read(tmp_path / f"{by}.jsonl") == [{**sharegpt, "weight": 3.0 / MEAN}]


def test_the_place_of_a_row_in_a_file_is_no_name(tmp_path: Path) -> None:
    rows = [row("a", text="one"), row("b", text="two")]
    for each in rows:
        del each["id"]
    run = make_run(tmp_path / "made", rows, {"data:1": 1.0, "data:2": 3.0})
    (tmp_path / "filtered").mkdir()
    data = write(tmp_path / "filtered/data.jsonl", rows[1:])  # now line 1

    join_weights(run, [data], tmp_path / "out.jsonl")

    assert read(tmp_path / "out.jsonl")[0]["weight"] == pytest.approx(1.5)
    with pytest.raises(DataError, match="none of the 1 rows"):
        join_weights(run, [data], tmp_path / "by_id.jsonl", by="id")


def test_an_id_the_run_used_twice_is_told_apart_by_content(tmp_path: Path) -> None:
    rows = [row("same", text="one"), row("same", text="two")]
    run = make_run(tmp_path / "made", rows, {"same": 1.0, "same#2": 3.0})

    join_weights(run, [tmp_path / "made/data.jsonl"], tmp_path / "out.jsonl")

    assert [each["weight"] for each in read(tmp_path / "out.jsonl")] == [0.5, 1.5]


def test_another_content_under_the_same_id_is_told(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [said("s0", "reply 0"), said("s1", "edited")])

    joined = join_weights(run, [data], tmp_path / "out.jsonl")

    assert joined.n_matched == {"id": 1, "changed": 1}
    assert [each["weight"] for each in read(tmp_path / "out.jsonl")] == [0.4, 0.8]
    assert "1 rows have an id of the run but say something else" in joined.warnings[0]
    assert "d.jsonl:2 (s1)" in joined.warnings[0]


def test_ids_that_never_say_the_same_are_refused_unless_asked_for(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [said("s0", "foreign"), said("s1", "foreign too")])

    with pytest.raises(DataError, match="not one of them says what the run's row says"):
        join_weights(run, [data], tmp_path / "out.jsonl")

    assert not (tmp_path / "out.jsonl").exists()
    assert join_weights(run, [data], tmp_path / "out.jsonl", by="id").n_matched == {"changed": 2}


def test_rows_of_one_content_and_two_weights_get_the_mean_by_content(tmp_path: Path) -> None:
    rows = [row("a", text="same"), row("b", text="same"), row("c", text="other")]
    run = make_run(tmp_path / "made", rows, {"a": 1.0, "b": 3.0, "c": 2.0})
    data = write(tmp_path / "d.jsonl", [{"messages": rows[0]["messages"]}])

    joined = join_weights(run, [data], tmp_path / "out.jsonl")

    assert read(tmp_path / "out.jsonl")[0]["weight"] == pytest.approx(1.0)  # mean of 0.5 and 1.5
    assert "1 texts stand in several rows" in joined.warnings[0]
    assert joined.examples["in no data row"] == ["c"]


def test_rows_of_tokens_are_found_by_id_and_keep_their_types(run: Run, tmp_path: Path) -> None:
    tokens = pa.table(
        {
            "traj_id": ["s3", "gone", "s1"],
            "input_ids": pa.array([[1, 2], [3], []], pa.list_(pa.int32())),
            "weight": pa.array([7.0, 8.0, 9.0], pa.float32()),
        }
    )
    pq.write_table(tokens, tmp_path / "d.parquet")

    joined = join_weights(run, [tmp_path / "d.parquet"], tmp_path / "out.parquet")

    found = pq.read_table(tmp_path / "out.parquet")
    kept = tokens.take([0, 2]).rename_columns(["traj_id", "input_ids", "weight_original"])
    assert found.drop_columns("weight").equals(kept)
    assert found["weight"].to_pylist() == [4.0 / MEAN, 2.0 / MEAN]
    assert joined.n_without_weight == {"not in the run": 1}
    assert joined.notes[0] == "2 rows had a `weight` of their own; it is now `weight_original`."


def test_many_parquet_rows_keep_their_order_and_nulls(run: Run, tmp_path: Path) -> None:
    names = [f"s{i % 5}" for i in range(3000)]
    pq.write_table(pa.table({"id": names, "at": range(3000)}), tmp_path / "d.parquet")

    join_weights(run, [tmp_path / "d.parquet"], tmp_path / "out.parquet", unmatched="keep")

    found = pq.read_table(tmp_path / "out.parquet")
    assert found["at"].to_pylist() == list(range(3000))
    assert found["weight"].to_pylist() == [
        WEIGHTS[name] / MEAN if name in WEIGHTS else None for name in names
    ]


def test_the_id_may_stand_where_the_user_says(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [{"meta": {"name": "s2"}, "input_ids": [1]}])
    layout = Layout.of("auto", ["id=meta.name"])

    joined = join_weights(run, [data], tmp_path / "out.jsonl", layout=layout)

    assert joined.n_matched == {"id": 1}


def test_what_was_mended_when_it_was_read_is_found_as_it_stood(tmp_path: Path) -> None:
    odd = row("a", text="answer")
    odd["messages"].append({"role": "user", "content": "never answered"})
    made = make_run(tmp_path / "made", [odd, row("b")], {"a": 1.0, "b": 1.0})
    mended = make_run(
        tmp_path / "mended",
        [{**odd, "messages": odd["messages"][:2]}, row("b")],
        {"a": 1.0, "b": 3.0},
    )
    mended.save_manifest({"arguments": {"data": {"repair": True}}})
    data = write(tmp_path / "d.jsonl", [{"messages": odd["messages"]}])

    assert join_weights(mended, [data], tmp_path / "a.jsonl").n_matched == {"content": 1}
    assert join_weights(made, [data], tmp_path / "b.jsonl").n_matched == {"content": 1}


def test_every_row_without_a_weight_can_be_listed(run: Run, tmp_path: Path) -> None:
    data = write(
        tmp_path / "d.jsonl", [said("s0", "reply 0"), said("x", "x"), said("v", "ok"), [1]]
    )
    with data.open("a") as stream:
        stream.write("no json\n")

    joined = join_weights(run, [data], tmp_path / "out.jsonl", listing=tmp_path / "list.jsonl")

    listed = read(tmp_path / "list.jsonl")
    assert [(each.get("line"), each.get("traj_id")) for each in listed] == [
        *((line, None) for line in (2, 3, 4, 5)),
        *((None, name) for name in ("s1", "s2", "s3")),
    ]
    assert joined.n_rejected == 2
    assert joined.n_read == joined.n_written + sum(joined.n_without_weight.values()) + 2


def test_what_is_held_does_not_grow_with_the_data(run: Run, tmp_path: Path) -> None:
    def peak(n_rows: int) -> int:
        each = [said("s0", "reply 0"), said("x", "long " * 400)]
        data = write(tmp_path / f"{n_rows}.jsonl", each * n_rows)
        tracemalloc.start()
        join_weights(run, [data], tmp_path / f"out{n_rows}.jsonl")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is imported and cached at first is no part of it

    assert peak(2000) < peak(200) + 500_000  # the data has 8 MB more


@pytest.mark.parametrize(
    "name", ["made/data.jsonl", "made/run/out.jsonl", "out.csv", "taken.jsonl"]
)
def test_nothing_is_written_over_that_was_not_given_up(run: Run, tmp_path: Path, name: str) -> None:
    write(tmp_path / "taken.jsonl", [])

    with pytest.raises(ConfigError):
        join_weights(run, [tmp_path / "made/data.jsonl"], tmp_path / name)


def test_parquet_is_not_made_of_rows_without_types(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column types"):
        join_weights(run, [tmp_path / "made/data.jsonl"], tmp_path / "out.parquet")


def test_an_id_whose_row_says_otherwise_yields_to_the_row_that_says_it(run: Run) -> None:
    book = WeightBook.of(run)
    contents = dict(run.table("weights").select("traj_id", "content_sha256").iter_rows())

    assert book.ask("s0", contents["s3"], "auto") == book.ask("s3", None, "id").__class__(
        "content", 4.0 / MEAN
    )
    assert book.ask("s0", contents["s3"], "id").how == "changed"
    assert book.ask("s0", contents["s3"], "content").weight == 4.0 / MEAN
    assert book.ask(None, None, "auto").how is None

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.runs import make_run, row
from trajweight.errors import ConfigError, RunError
from trajweight.export import ExportRequest, ExportResult, export_weights
from trajweight.selection import Filters
from trajweight.trainers.plain import PARQUET_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1, {}]}'}}
ROWS = [
    row("s1", tags=["a", None], reward=0.5),
    row("s2", source="bad", weight="heavy", weight_original=3),
    row("r1", source="real"),
    {
        "id": "s3",
        "source": "bad",
        "origin": "synthetic",
        "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "é\u2028"}],
    },
    row("v1", source="real"),
    row("s4", big=2**70, nested={"weight": 1}),
]
ROWS[0]["messages"] += [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "42"},
    {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
]
ROWS[0]["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
WEIGHTS = {"s1": 2.0, "s2": 1.0, "s3": 0.0, "s4": 1.0}
#: The same of mean one over the rows that go out: s1, s2, the real one and s4.
WRITTEN = [weight / (4.25 / 4) for weight in (2.0, 1.0, 0.25, 1.0)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, ROWS, WEIGHTS, splits={"v1": "validation"}, real_weight=0.25)


def export(
    run: Run, out: Path, *, force: bool = False, to: str = "auto", **filters: Any
) -> ExportResult:
    """One plain file, of the rows that the filters leave."""
    return export_weights(run, out, ExportRequest(to=to, filters=Filters(**filters)), force=force)


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in data.splitlines()]


def names(path: Path) -> list[str]:
    return [one["id"] for one in read(path)]


def test_an_exported_row_is_the_original_row_and_its_weight(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out.jsonl")

    found = {one["id"]: one for one in read(tmp_path / "out.jsonl")}
    for original in ROWS:
        if original["id"] in ("s1", "r1", "s4"):
            assert found[original["id"]].pop("weight") >= 0
            assert found[original["id"]] == original
            assert list(found[original["id"]]) == list(original)


def test_weights_are_those_of_the_run_brought_to_mean_one_over_what_goes_out(
    run: Run, tmp_path: Path
) -> None:
    result = export(run, tmp_path / "out.jsonl")

    assert [one["weight"] for one in read(result.path)] == pytest.approx(WRITTEN)
    assert result.mass_kept == 1.0
    assert result.ess_fraction == pytest.approx(4.25**2 / (4 + 1 + 0.0625 + 1) / 4)


def test_a_weight_the_row_had_is_kept_under_a_free_name_in_its_place(
    run: Run, tmp_path: Path
) -> None:
    result = export(run, tmp_path / "out.jsonl")

    moved = next(one for one in read(result.path) if one["id"] == "s2")
    assert moved["weight"] == pytest.approx(1.0 / (4.25 / 4))
    assert moved["weight_original"] == 3
    assert moved["weight_original_2"] == "heavy"
    assert list(moved).index("weight_original_2") == list(ROWS[1]).index("weight")
    assert "1 rows had a `weight` of their own; it is now `weight_original_2`." in result.notes


def test_every_row_is_written_or_counted_with_a_reason(run: Run, tmp_path: Path) -> None:
    result = export(run, tmp_path / "out.jsonl", origins=("synthetic",), min_weight=1.5)

    assert names(result.path) == ["s1"]
    assert result.n_left_out == {
        "below weight 1.5": 2,
        "in split validation": 1,
        "of origin real": 1,
        "of weight zero": 1,
    }
    assert result.n_rows + sum(result.n_left_out.values()) == len(ROWS)
    assert result.mass_kept == 0.5


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 1}, ["s1", "r1"]),
        ({"top_k": 2}, ["s1", "s2", "r1"]),  # s2 and s4 tie; the name decides
        ({"top_k": 99}, ["s1", "s2", "r1", "s4"]),
        ({"top_fraction": 0.5}, ["s1", "s2", "r1"]),
        ({"top_fraction": 0.01}, ["s1", "r1"]),
        ({"min_weight": 1.0}, ["s1", "s2", "r1", "s4"]),
        ({"min_weight": 1.0, "top_k": 1, "origins": ("synthetic",)}, ["s1"]),
        ({"origins": ("real",)}, ["r1"]),
        ({"splits": ("validation",)}, ["v1"]),
    ],
)
def test_filters_rank_synthetic_rows_and_keep_real_ones(run, tmp_path, options, kept) -> None:
    result = export(run, tmp_path / "out.jsonl", **options)

    assert names(result.path) == kept


def test_rows_outside_of_train_have_no_weight_and_it_is_said(run: Run, tmp_path: Path) -> None:
    result = export(run, tmp_path / "out.jsonl", splits=("train", "validation"))

    written = {one["id"]: one["weight"] for one in read(result.path)}
    assert written["v1"] is None
    assert any(note.startswith("1 rows are not in split train") for note in result.notes)


def test_compressed_rows_are_the_same_rows_and_the_same_bytes_twice(
    run: Run, tmp_path: Path
) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"):
        export(run, tmp_path / name)

    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert read(tmp_path / "a.jsonl.gz") == read(tmp_path / "c.jsonl")


def test_parquet_holds_messages_as_text(run: Run, tmp_path: Path) -> None:
    result = export(run, tmp_path / "out.parquet")

    table = pl.read_parquet(result.path)
    assert table.columns == list(PARQUET_COLUMNS)
    assert table["weight"].to_list() == pytest.approx(WRITTEN)
    called = json.loads(table["messages_json"][0])[2]["tool_calls"][0]
    assert called["arguments"] == {"x": [1, {}]}


def test_a_datasets_folder_loads_with_nested_messages(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    result = export(run, tmp_path / "out")

    loaded = datasets.load_from_disk(str(result.path))
    assert list(loaded["weight"]) == pytest.approx(WRITTEN)
    assert loaded[0]["tools"] == ROWS[0]["tools"]
    assert loaded[1]["tools"] is None
    called = loaded[0]["messages"][2]["tool_calls"][0]["function"]
    assert called["name"] == "f"
    assert json.loads(called["arguments"]) == {"x": [1, {}]}
    assert [message["role"] for message in loaded[1]["messages"]] == ["user", "assistant"]


def test_a_datasets_folder_is_replaced_with_force_and_nothing_else_is(
    run: Run, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    export(run, out)

    export(run, out, top_k=1, force=True)
    (out / "thesis.tex").write_text("mine")

    assert len(datasets.load_from_disk(str(out))) == 2
    with pytest.raises(ConfigError, match=r"holds thesis\.tex, which no export wrote"):
        export(run, out, force=True)
    assert (out / "thesis.tex").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "out", "run"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out"])
def test_what_stands_at_the_place_is_replaced_only_with_force(run, tmp_path, name) -> None:
    export(run, tmp_path / name)

    with pytest.raises(ConfigError, match="already there") as caught:
        export(run, tmp_path / name)
    export(run, tmp_path / name, force=True)

    assert "--force" in caught.value.hint


@pytest.mark.parametrize("name", ["data.jsonl", "run/weights.parquet", "run/report.json", "run"])
def test_neither_the_input_nor_the_run_is_ever_written_over(run, tmp_path, name) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(ConfigError):
        export(run, tmp_path / name, to="jsonl", force=True)

    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_ending_decides_and_an_unknown_one_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ending '\.csv'"):
        export(run, tmp_path / "out.csv")

    assert export(run, tmp_path / "out.txt", to="jsonl").target == "jsonl"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "--top-k is 0"),
        ({"top_fraction": 1.5}, r"--top-fraction is 1\.5"),
        ({"top_fraction": float("nan")}, "--top-fraction is nan"),
        ({"min_weight": -1.0}, "--min-weight is -1"),
        ({"top_k": 1, "top_fraction": 0.5}, "both say"),
        ({"splits": ("trian",)}, "--split is trian"),
        ({"origins": ()}, "--origin is empty"),
        ({"min_weight": 99.0, "origins": ("synthetic",)}, "no row is left to export: 3 below"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(run, tmp_path, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        export(run, tmp_path / "out.jsonl", **options)

    assert not (tmp_path / "out.jsonl").exists()


def test_weights_of_other_rows_are_refused(run: Run, tmp_path: Path) -> None:
    weights = run.table("weights").with_columns(content_sha256=pl.lit("0"))
    run.save_table("weights", weights)

    with pytest.raises(RunError, match="agree in 0 rows only"):
        export(run, tmp_path / "out.jsonl")

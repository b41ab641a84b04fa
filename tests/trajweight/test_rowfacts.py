"""Laws of what an export holds of every row: little, and the same however the tables are cut."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs import make_run, row
from trajweight import run as run_module
from trajweight.errors import DataError
from trajweight.export import ExportRequest, export_weights
from trajweight.export.outgoing import outgoing
from trajweight.export.refusals import Refusals
from trajweight.export.rowfacts import beside
from trajweight.run import Run, write_parquet, write_parquet_pieces
from trajweight.selection import Filters, Quota
from trajweight.weights import check_weight_table, checked_pieces

N = 60


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Ids in no order, several sources, ties of weights, a held-out row, tokens of some rows."""
    rng = np.random.default_rng(0)
    names = [f"id-{number:02d}" for number in rng.permutation(N)]
    rows = [
        row(name, source="abc"[i % 3], text="word " * (1 + i % 7)) for i, name in enumerate(names)
    ]
    weights = {name: float(1 + i % 4) for i, name in enumerate(names) if i}
    splits = {names[0]: "dev"}
    embeddings = {name: [0.0] for name in names}
    made = make_run(tmp_path, rows, weights, splits=splits, embeddings=embeddings)
    counted = pl.Series("n_assistant_tokens", rng.integers(1, 99, N))
    made.save_table("features", made.table("features").with_columns(counted)[::2])
    return made


def files_of(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "export.json"}


REQUESTS = {
    "adapter": ExportRequest(to="trl"),
    "resample": ExportRequest(to="trl", mode="resample"),
    "dialled buckets": ExportRequest(to="jsonl", mode="buckets", target_ess=0.95),
    "ranked": ExportRequest(
        to="trl", filters=Filters(top_fraction=0.5, quotas={"a": Quota(rows=9)})
    ),
}


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
def test_an_export_does_not_hang_on_the_order_of_the_tables_or_on_how_they_are_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: ExportRequest
) -> None:
    export_weights(run, tmp_path / "a", asked)
    monkeypatch.setattr(run_module, "_PIECE_ROWS", 7)
    export_weights(run, tmp_path / "b", asked)
    for name in ("weights", "features"):
        table = run.table(name)
        run.save_table(name, table.sample(fraction=1.0, shuffle=True, seed=1))
        export_weights(run, tmp_path / name, asked)

    assert len(files_of(tmp_path / "a")) > 2
    for name in ("b", "weights", "features"):
        assert files_of(tmp_path / name) == files_of(tmp_path / "a"), name


def cut(table: pl.DataFrame, ends: list[int]) -> list[pl.DataFrame]:
    """A table in pieces, some of them perhaps empty."""
    places = [0, *sorted(min(end, table.height) for end in ends), table.height]
    return [table[begin:end] for begin, end in pairwise(places)]


ends = st.lists(st.integers(0, 30), max_size=6)
names = st.lists(st.integers(0, 40), unique=True, max_size=30)


@given(rows=names, others=names, in_order=st.booleans(), cuts=st.tuples(ends, ends))
def test_rows_get_what_another_table_says_of_them_whatever_its_order(
    rows: list[int], others: list[int], in_order: bool, cuts: tuple[list[int], list[int]]
) -> None:
    if in_order:  # as a run writes it: rows of the table, in its order, some of them missing
        others = [name for name in rows if name % 3]
    table = pl.DataFrame(
        {"key": rows, "at_home": rows}, schema={"key": pl.Int64, "at_home": pl.Int64}
    )
    said = pl.DataFrame(
        {"key": others, "told": [10 * name for name in others]},
        schema={"key": pl.Int64, "told": pl.Int64},
    )

    found, n_others = beside(lambda: cut(table, cuts[0]), lambda: cut(said, cuts[1]), ["key"])

    assert found["at_home"].to_list() == rows
    assert found["told"].to_list() == [10 * name if name in others else None for name in rows]
    assert n_others == len(others)


@pytest.mark.parametrize("n_rows", [7_000, 16_384, 100_000])
def test_a_table_written_in_pieces_is_the_whole_table_to_the_byte(
    tmp_path: Path, n_rows: int
) -> None:
    numbers = np.random.default_rng(0).random(150_000)
    table = pl.DataFrame(
        {"name": [f"row-{i}" for i in range(len(numbers))], "weight": numbers}
    ).with_columns(pl.when(pl.col("weight") < 0.9).then("weight"))

    write_parquet(tmp_path / "whole", table)
    write_parquet_pieces(tmp_path / "pieces", table.iter_slices(n_rows), table.schema)

    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_is_held_of_a_row_is_a_few_numbers_and_no_text(run: Run) -> None:
    going = outgoing(run, Filters(splits=("train", "dev")))

    assert pl.String not in going.rows.dtypes
    assert going.rows.estimated_size() <= 24 * N


PEAK = """
import sys
from pathlib import Path
from trajweight.export.outgoing import outgoing
from trajweight.run import Run
from trajweight.selection import Filters
going = outgoing(Run(Path(sys.argv[1])), Filters(top_fraction=0.5), target_ess=0.9)
heavy = {"torch", "transformers", "peft", "datasets", "sklearn", "matplotlib"} & set(sys.modules)
status = Path("/proc/self/status").read_text()
print(going.rows.height, int(status.partition("VmHWM:")[2].split()[0]) * 1024, *heavy)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak on Linux only")
def test_memory_grows_by_few_hundred_bytes_a_row_at_most_and_no_heavy_library_is_loaded(
    run: Run, tmp_path: Path
) -> None:
    peaks = {}
    for n in (50_000, 450_000):
        number = pl.int_range(n, eager=True).cast(pl.String)
        named = pl.DataFrame(
            {"traj_id": "a-source-with-a-name-" + number, "content_sha256": number.str.zfill(64)}
        )
        for name in ("trajectories", "weights"):
            one = run.table(name)[1:2].with_columns(pl.lit(1.0).alias("weight"))
            table = named.join(one.drop(named.columns), how="cross")
            write_parquet(
                tmp_path / str(n) / f"{name}.parquet", table.select(run.table(name).columns)
            )
        command = [sys.executable, "-c", PEAK, str(tmp_path / str(n))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert said[0] == str(n // 2)
        assert said[2:] == []
        peaks[n] = int(said[1])

    # 75 to 190 bytes; a table of their ids and hashes alone would be 150, to match two of them 1000
    assert peaks[450_000] - peaks[50_000] < 300 * 400_000


def table_of_weights(**changed: list[object]) -> pl.DataFrame:
    n = 12
    columns: dict[str, list[object]] = {
        "traj_id": [f"t{i}" for i in range(n)],
        "content_sha256": ["0"] * n,
        "source": ["s"] * n,
        "origin": ["synthetic"] * n,
        "split": ["train"] * n,
        "task_id": ["t"] * n,
        "weight": [0.5, 1.5] * (n // 2),
        "score": [None] * n,
        "n_tokens": [1] * n,
        "n_turns": [1] * n,
    }
    numbers = {"weight": pl.Float64, "score": pl.Float64, "n_tokens": pl.Int64, "n_turns": pl.Int64}
    return pl.DataFrame(
        columns | changed, schema={name: numbers.get(name, pl.String) for name in columns}
    )


SPOILT = {
    "an id that stands twice, far apart": {
        "traj_id": ["t0", *(f"t{i}" for i in range(1, 11)), "t0"]
    },
    "a mean that is not one": {"weight": [0.5, 1.5] * 5 + [0.5, 2.5]},
    "a weight below zero": {"weight": [0.5, 1.5] * 5 + [-1.0, 3.0]},
    "an unknown split": {"split": ["train"] * 11 + ["trian"]},
}


@pytest.mark.parametrize("pieces", [1, 5, 12])
@pytest.mark.parametrize("changed", SPOILT.values(), ids=SPOILT)
def test_a_weight_table_in_pieces_is_held_to_the_laws_of_the_whole(
    changed: dict[str, list[object]], pieces: int
) -> None:
    table = table_of_weights(**changed)
    with pytest.raises(DataError) as whole:
        check_weight_table(table)

    with pytest.raises(DataError) as found:
        list(checked_pieces(table.iter_slices(pieces), lambda: table))

    assert found.value.message == whole.value.message


def test_a_sound_weight_table_comes_through_in_its_pieces() -> None:
    table = table_of_weights()

    assert pl.concat(checked_pieces(table.iter_slices(5), lambda: pl.DataFrame())).equals(table)


def test_refused_rows_are_counted_once_and_only_if_they_would_have_gone_out() -> None:
    refused = Refusals()
    for place, reason in ((4, "long"), (1, "odd"), (0, "long"), (2, "gone")):
        refused.add(place, reason)
    stays = np.array([True, True, False, True, True])

    counts = refused.take_out(stays)

    assert +counts == {"long": 2, "odd": 1}
    assert stays.tolist() == [False, False, False, True, False]
    assert len(refused) == 4

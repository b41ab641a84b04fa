"""A run's weights, back in the rows they belong to: JSONL, Parquet, or a `datasets` folder.

Weights are written as they were learned: mean one over the synthetic training rows of the run,
whatever a filter leaves out. So a trajectory has the same number in every export and in
``weights.parquet``; the result says what the mean over the exported rows is, because most
trainers scale their step by it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from trajweight.errors import ConfigError, MissingError, RunError
from trajweight.files import write_jsonl
from trajweight.formats import Canonical, format_named
from trajweight.jsontext import decode
from trajweight.manifest import SEMANTICS
from trajweight.reading import original_row
from trajweight.run import RUN_FILES, Run, write_parquet
from trajweight.selection import Filters, reasons_left_out
from trajweight.trajectory import ORIGINS, TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trajweight.trajectory import Origin, Split

Format = Literal["auto", "jsonl", "parquet", "datasets"]

#: Columns of the Parquet export. Messages, tools and the rest of a row are JSON text, because
#: tool arguments of different shapes share no column type; a typed column would null-fill them.
PARQUET_COLUMNS: Final = (
    *("traj_id", "source", "origin", "split", "task_id", "weight"),
    *("messages_json", "tools_json", "extra_json"),
)
#: Files that `datasets` itself writes; a folder with anything else in it is never replaced.
_DATASET_FILES: Final = ("dataset_info.json", "state.json")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote and what it did not.

    Attributes:
        path: The file or folder.
        format: jsonl, parquet or datasets.
        n_rows: Rows written.
        n_left_out: Reason to number of rows; with ``n_rows`` they add up to the run's rows.
        mass_kept: Share of the synthetic training weight that was written, 0 to 1.
        mean_weight: Mean over the written rows that have a weight; None where none has.
        notes: Sentences the user should read.
    """

    path: Path
    format: str
    n_rows: int
    n_left_out: dict[str, int]
    mass_kept: float
    mean_weight: float | None
    notes: tuple[str, ...] = field(default=())


def export_weights(
    run: Run,
    out: Path,
    *,
    format: Format = "auto",
    splits: Sequence[Split] = ("train",),
    origins: Sequence[Origin] = ORIGINS,
    min_weight: float | None = None,
    top_k: int | None = None,
    top_fraction: float | None = None,
    force: bool = False,
) -> ExportResult:
    """Write the rows of a run with their weights.

    JSONL gives each original row back, nothing lost, with a root float ``weight``. Parquet holds
    `PARQUET_COLUMNS`. A `datasets` folder holds messages and tools as nested `Json` features, for
    ``datasets.load_from_disk``. Rows of weight zero train nothing and are left out, and counted.

    Args:
        run: The run whose weights to write.
        out: The file or folder; with ``format="auto"`` its ending decides: ``.jsonl``,
            ``.jsonl.gz``, ``.parquet``, or none for a folder.
        format: The format, where the ending shall not decide.
        splits: See `Filters`, as for the next four.
        origins: See `Filters`.
        min_weight: See `Filters`.
        top_k: See `Filters`.
        top_fraction: See `Filters`.
        force: Replace what stands at ``out``.

    Raises:
        ConfigError: If an option cannot be used, ``out`` is taken, or no row would be written.
        RunError: If the run lacks its weights or its rows.
        MissingError: If a `datasets` folder is asked for and the package is not there.
    """
    filters = Filters(tuple(splits), tuple(origins), min_weight, top_k, top_fraction)
    kind = _format_of(out) if format == "auto" else format
    rows = _weighted_rows(run)
    _require_free(run, out, kind, rows, force=force)
    reasons = reasons_left_out(rows, filters)
    chosen = rows.filter(reasons.is_null())
    left_out = dict(sorted(Counter(reasons.drop_nulls().to_list()).items()))
    if chosen.is_empty():
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no rows"
        message = f"no row is left to export: {told}."
        raise ConfigError(message, hint="Loosen the filters.")
    notes = [*_WRITERS[kind](chosen, out), *_weight_notes(chosen)]
    return ExportResult(
        path=out,
        format=kind,
        n_rows=chosen.height,
        n_left_out=left_out,
        mass_kept=_share_of_mass(chosen, rows),
        mean_weight=_number(chosen["weight"].mean()),
        notes=tuple(notes),
    )


def _weighted_rows(run: Run) -> pl.DataFrame:
    """The trajectory table in its order with split and weight, after a check that both match."""
    table, weights = run.trajectories(*TEXT_COLUMNS), run.table("weights")
    told = weights.select("traj_id", "content_sha256", "split", "weight")
    rows = table.drop("split", "weight", strict=False).join(
        told, on=["traj_id", "content_sha256"], how="inner", maintain_order="left"
    )
    if not rows.height == table.height == weights.height:
        message = (
            f"weights.parquet ({weights.height} rows) and trajectories.parquet ({table.height} "
            f"rows) agree in {rows.height} rows only"
        )
        raise RunError(message, path=run.folder, hint="Run it again into this folder with --force.")
    return rows


def _write_jsonl(rows: pl.DataFrame, out: Path) -> list[str]:
    """Original rows, each with its weight at the end."""
    counts: Counter[str] = Counter()

    def weighted() -> Iterator[dict[str, Any]]:
        for row in rows.iter_rows(named=True):
            original, moved_to = _make_room(original_row(row))
            if moved_to:
                counts[moved_to] += 1
            original["weight"] = row["weight"]
            yield original

    write_jsonl(out, weighted())
    return [
        f"{count} rows had a `weight` of their own; it is now `{name}`."
        for name, count in counts.items()
    ]


def _make_room(row: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Rename a row's own ``weight`` in its place to the first free name; gives that name too."""
    if "weight" not in row:
        return dict(row), ""
    name, number = "weight_original", 2
    while name in row:
        name, number = f"weight_original_{number}", number + 1
    return {(name if key == "weight" else key): value for key, value in row.items()}, name


def _write_parquet(rows: pl.DataFrame, out: Path) -> list[str]:
    """The flat columns, messages as JSON text."""
    write_parquet(out, rows.select(PARQUET_COLUMNS))
    return ["Messages, tools and the rest of each row are JSON text; decode them when you read."]


def _write_datasets(rows: pl.DataFrame, out: Path) -> list[str]:
    """A folder for ``load_from_disk``, built beside its place and then renamed."""
    try:
        import datasets
    except ImportError as error:
        message = "a datasets folder needs the package datasets."
        raise MissingError(message, hint="pip install datasets") from error
    text, nested = datasets.Value("string"), datasets.List(datasets.Json())
    features = datasets.Features(
        {
            **dict.fromkeys(("traj_id", "source", "origin", "split", "task_id"), text),
            "weight": datasets.Value("float64"),
            "messages": nested,
            "tools": nested,
            "extra_json": text,
        }
    )
    target = Path(os.path.realpath(out))
    target.parent.mkdir(parents=True, exist_ok=True)
    had_bars = datasets.is_progress_bar_enabled()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        try:
            datasets.disable_progress_bars()  # this library is silent; the surface says what runs
            made = datasets.Dataset.from_list([_nested(row) for row in _named(rows)], features)
            made.save_to_disk(Path(beside) / "made")
        finally:
            if had_bars:
                datasets.enable_progress_bars()
        if target.exists():
            shutil.rmtree(target)
        (Path(beside) / "made").replace(target)
    return ["Read it with datasets.load_from_disk; extra_json holds the rest of each row as text."]


def _named(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows with the exported columns only."""
    return rows.select(PARQUET_COLUMNS).iter_rows(named=True)


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A row with messages as the OpenAI API writes them, which chat templates and trainers read."""
    tools = row.pop("tools_json")
    row["tools"] = None if tools is None else decode(tools)
    told = Canonical(decode(row.pop("messages_json")), row["tools"] or [])
    row["messages"] = format_named("messages").restored(told)["messages"]
    return row


_WRITERS: Final[dict[str, Callable[[pl.DataFrame, Path], list[str]]]] = {
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
    "datasets": _write_datasets,
}


def _format_of(out: Path) -> Literal["jsonl", "parquet", "datasets"]:
    """The format that the ending of a name asks for."""
    name = out.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return "jsonl"
    if name.endswith(".parquet"):
        return "parquet"
    if not out.suffix or out.is_dir():
        return "datasets"
    message = f"--out {out} has the ending {out.suffix!r}, which names no format."
    hint = "Use .jsonl, .jsonl.gz, .parquet or a folder, or say --format."
    raise ConfigError(message, hint=hint)


def _require_free(run: Run, out: Path, kind: str, rows: pl.DataFrame, *, force: bool) -> None:
    """Never write over the run or its input; over anything else only with force."""
    place = Path(os.path.realpath(out))
    own = {Path(os.path.realpath(run.folder / name)) for name in RUN_FILES}
    read = {Path(os.path.realpath(path)) for path in rows["origin_path"].unique().to_list()}
    texts = Path(os.path.realpath(run.storage.conversations))
    if place in own | {Path(os.path.realpath(run.folder)), texts} or texts in place.parents:
        message = f"--out {out} is part of the run itself."
        raise ConfigError(message, hint="Give another --out.")
    if place in read:
        message = f"--out {out} is the file the rows were read from."
        raise ConfigError(message, hint="Give another --out; the input is never written over.")
    if not place.exists() or (kind != "datasets" and not place.is_file() and not place.is_dir()):
        return  # nothing there, or a pipe or device that is made to be written to
    if kind == "datasets":
        _require_dataset_folder(place, out)
    elif place.is_dir():
        message = f"--out {out} is a folder; {kind} is written to a file."
        raise ConfigError(message, hint="Give a file name.")
    if not force and not (place.is_dir() and not any(place.iterdir())):
        message = f"--out {out} is already there."
        raise ConfigError(message, hint="--force or another --out")


def _require_dataset_folder(place: Path, out: Path) -> None:
    """Only an empty folder or one that `datasets` wrote whole may be replaced."""
    if not place.is_dir():
        message = f"--out {out} is a file; a datasets folder cannot take its place."
        raise ConfigError(message, hint="Give another --out, or an ending such as .jsonl.")
    foreign = [
        path.name
        for path in place.iterdir()
        if path.name not in _DATASET_FILES and not path.match("data-*.arrow")
    ]
    if foreign:
        message = f"--out {out} holds {sorted(foreign)[0]}, which no export wrote."
        raise ConfigError(message, hint="Give another --out.")


def _weight_notes(rows: pl.DataFrame) -> list[str]:
    """What a trainer must know about the numbers."""
    notes = [f"Weights belong to a {SEMANTICS} loss: each trajectory counts by its weight alone."]
    mean = _number(rows["weight"].mean())
    if mean is not None and abs(mean - 1.0) > 0.01:
        notes.append(
            f"The mean weight of the exported rows is {mean:.3g}; a trainer that divides by the "
            f"number of rows or tokens takes steps that much {'longer' if mean > 1 else 'shorter'}."
        )
    empty = rows["weight"].null_count()
    if empty:
        notes.append(f"{empty} rows are not in split train, so their weight is null.")
    return notes


def _share_of_mass(chosen: pl.DataFrame, rows: pl.DataFrame) -> float:
    """The part of the learned weight that goes out."""
    learned = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    whole = float(rows.filter(learned)["weight"].sum())
    return float(chosen.filter(learned)["weight"].sum()) / whole if whole else 0.0


def _number(value: object) -> float | None:
    """The mean of a polars column, or None for an empty one."""
    return value if isinstance(value, float) else None

"""Parquet rows written again with a weight: all other columns keep their types and values."""

from __future__ import annotations

import math
from array import array
from typing import IO, TYPE_CHECKING, Any, Final

from trajweight.containers import STDIN
from trajweight.containers.sniffing import PARQUET
from trajweight.errors import ConfigError, DataError
from trajweight.files import write_atomically
from trajweight.trainers.plain import free_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    from trajweight.containers import Source

#: Rows that are in memory together.
_GROUP_ROWS: Final = 1_024
WEIGHT: Final = "weight"
#: The place of a row in its file, from 0, and its weight.
Decided = tuple[int, float | None]


def write_joined_table(
    out: Path,
    sources: Sequence[Source],
    decided: Callable[[Source], Iterable[Decided]],
    end: Callable[[], None],
) -> str:
    """Write the rows of Parquet files with their weights; the files are read twice.

    Args:
        out: The Parquet file to write.
        sources: The files.
        decided: Gives of a file the rows that are written, in order.
        end: Called when all rows are decided, before the file takes its place; it may refuse.

    Returns:
        What a column ``weight`` of the files is called now; empty where they had none.

    Raises:
        ConfigError: If the files are not all Parquet, or of different columns.
        DataError: If one of them is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_parquet(sources)
    schema, renamed = _schema(sources)

    def fill(stream: IO[bytes]) -> None:
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for source in sources:
                file = pq.ParquetFile(source.path)
                is_kept, weights = _columns(decided(source), file.metadata.num_rows)
                for batch in _batches(file, is_kept, weights, schema):
                    writer.write_batch(batch)
        end()

    try:
        write_atomically(out, fill)
    except pa.ArrowException as error:
        message = f"a Parquet file of the data is damaged: {' '.join(str(error).split())}"
        raise DataError(message, hint="Write .jsonl, which leaves out what is damaged.") from error
    return renamed


def _columns(decided: Iterable[Decided], n_rows: int) -> tuple[bytearray, array[float]]:
    """Which rows of a file are written, and all their weights, NaN where there is none."""
    is_kept, weights = bytearray(n_rows), array("d", [math.nan]) * n_rows
    for place, weight in decided:
        is_kept[place] = True
        if weight is not None:
            weights[place] = weight
    return is_kept, weights


def _batches(
    file: ParquetFile, is_kept: bytearray, weights: array[float], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows that are written, a few at a time."""
    import numpy as np
    import pyarrow as pa

    first = 0
    for batch in file.iter_batches(_GROUP_ROWS):
        here = slice(first, first + batch.num_rows)
        first += batch.num_rows
        column = pa.array(np.frombuffer(weights[here]), pa.float64(), from_pandas=True)
        made = pa.RecordBatch.from_arrays([*batch.columns, column], schema=schema)
        yield made.filter(pa.array(np.frombuffer(is_kept[here], dtype=np.bool_)))


def _schema(sources: Sequence[Source]) -> tuple[pa.Schema, str]:
    """The columns of all files and the weight, and what a weight they had is called."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pq.read_schema(sources[0].path)
    for source in sources[1:]:
        if not pq.read_schema(source.path).equals(first):
            message = f"{source.path} has other columns than {sources[0].path}."
            raise ConfigError(message, hint="Write .jsonl, or join the files one by one.")
    renamed = ""
    if WEIGHT in first.names:
        row: dict[str, Any] = dict.fromkeys(first.names)
        renamed = free_name(row)
        first = first.set(first.get_field_index(WEIGHT), first.field(WEIGHT).with_name(renamed))
    return first.append(pa.field(WEIGHT, pa.float64())), renamed


def _require_parquet(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.path == STDIN or source.container != PARQUET:
            message = f"--out is Parquet, but {source.path} is not: its rows have no column types."
            raise ConfigError(message, hint="Write .jsonl or .jsonl.gz.")

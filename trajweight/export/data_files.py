"""Files of rows, written as they come: whatever their number, few are in memory at a time."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from array import array
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.errors import MissingError, TrajweightError
from trajweight.files import json_line, refusals_told, write_atomically, write_jsonl
from trajweight.jsontext import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    import datasets
    import pyarrow as pa
    from numpy.typing import NDArray

    from trajweight.trainers import Container, Row

#: Rows that stand together in a Parquet file.
GROUP_ROWS: Final = 1_024
_REPORT: Final = "Please report this as a bug."


def write_rows(path: Path, rows: Iterable[Row], container: Container, schema: pa.Schema) -> int:
    """Write a file of rows, or a folder of `datasets`; gives back how many.

    Args:
        path: Where.
        rows: What.
        container: How.
        schema: Of Parquet, so that no group of rows infers types of its own; else not looked at.

    Raises:
        TrajweightError: If the system refuses, or a row is not of the schema.
        MissingError: If a package is needed and not there.
    """
    if container == "jsonl":
        return write_jsonl(path, rows)
    if container == "parquet":
        return _write_parquet(path, rows, schema)
    return _write_dataset(path, rows)


class Spool:
    """Rows in a scratch file, to be read again in any order and any number of times."""

    def __init__(self, folder: Path | None = None) -> None:
        """An empty one; its file has no name, so nothing is left of it whatever happens.

        Args:
            folder: On whose disk it is; by default that of the system's scratch files.
        """
        with refusals_told(folder or Path(tempfile.gettempdir())):
            self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - see __exit__
        self._folder = folder
        # by place in the file: which row, and where it begins; it ends where the next one begins
        self._names, self._begins, self._end = array("q"), array("q"), 0

    def __enter__(self) -> Spool:
        """Close it at the end of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._stream.close()

    def add(self, name: int, row: Row) -> None:
        """Keep a row under a number."""
        line = json_line(row)
        with refusals_told(self._folder or Path(tempfile.gettempdir())):
            self._stream.write(line)
        self._names.append(name)
        self._begins.append(self._end)
        self._end += len(line)

    def rows(self, names: NDArray[np.integer[Any]]) -> Iterator[Row]:
        """The rows of these numbers, in this order. Shape (lines,)."""
        known, begins = (np.frombuffer(each, np.int64) for each in (self._names, self._begins))
        # mostly they were added in order, and then need no other
        order = None if (known[1:] > known[:-1]).all() else np.argsort(known, kind="stable")
        for first in range(0, len(names), GROUP_ROWS):
            places = np.searchsorted(known, names[first : first + GROUP_ROWS], sorter=order)
            places = places if order is None else order[places]
            after = np.minimum(places + 1, len(begins) - 1)
            ends = np.where(places + 1 < len(begins), begins[after], self._end)
            for begin, end in zip(begins[places].tolist(), ends.tolist(), strict=True):
                self._stream.seek(begin)
                yield decode(self._stream.read(end - begin))


def _write_parquet(path: Path, rows: Iterable[Row], schema: pa.Schema) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0

    def fill(stream: IO[bytes]) -> None:
        nonlocal count
        left = iter(rows)
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            while group := list(itertools.islice(left, GROUP_ROWS)):
                try:
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
                except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                    message = f"{path.name}: a row is not what the target reads: {error}"
                    raise TrajweightError(message, hint=_REPORT) from error
                count += len(group)

    write_atomically(path, fill)
    return count


def _write_dataset(folder: Path, rows: Iterable[Row]) -> int:
    """Fill a folder for ``load_from_disk``."""
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
    folder.mkdir(parents=True, exist_ok=True)
    with (
        refusals_told(folder),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".trajweight-") as beside,
        _without_bars(),
    ):
        shard = Path(beside) / "rows.arrow"
        count = _write_arrow(shard, rows, features)
        # the library is silent; the surface says what runs
        made = datasets.Dataset.from_file(str(shard)) if count else _empty(features)
        made.save_to_disk(folder)
    return count


def _write_arrow(path: Path, rows: Iterable[Row], features: datasets.Features) -> int:
    """Rows in Arrow's own form, a group at a time."""
    from datasets.arrow_writer import ArrowWriter

    count = 0
    with ArrowWriter(path=str(path), features=features, writer_batch_size=GROUP_ROWS) as writer:
        for row in rows:
            writer.write(features.encode_example(row))
            count += 1
        writer.finalize()
    return count


def _empty(features: datasets.Features) -> datasets.Dataset:
    import datasets

    return datasets.Dataset.from_list([], features)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    import datasets

    had_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()

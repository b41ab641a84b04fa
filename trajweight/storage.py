"""The rows of a run on disk: one table of all but their texts, and the texts beside it in parts.

    trajectories.parquet   a row a trajectory
    conversations/         its messages, its tools and the rest of its row, in the same order
    rejected.jsonl         the rows that could not be used, with file, line and reason
    envelopes.jsonl        what of the files stands in no row, see `remains`

All is written in one pass, whatever the size of what is read. The texts are written where they
stay, as they come. What a row is called needs the whole table, so the other columns, which are
small, wait in hidden files until all is read. Several processes may write at once: each batch of
rows is of a group, and the order of the rows is that of groups and of batches within them.
"""

from __future__ import annotations

import io
import json
import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.errors import RunError
from trajweight.files import PART_SUFFIX, json_line, refusals_told, write_atomically
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TRAJECTORIES: Final = "trajectories.parquet"
CONVERSATIONS: Final = "conversations"
REJECTED: Final = "rejected.jsonl"
ENVELOPES: Final = "envelopes.jsonl"
_TEXTS: Final = frozenset(TEXT_COLUMNS)
#: What waits in hidden files until all is read.
_WAITING: Final = (TRAJECTORIES, REJECTED, ENVELOPES)
#: Tools are often the same in all rows; no other text is worth a dictionary.
_REPEATED: Final = ["tools_json"]
#: What ties the texts of a row to the row; it stands in both places.
_TIE: Final = "content_sha256"
#: A part ends with the batch that brings it to one of these.
_PART_ROWS: Final = 16_384
_PART_BYTES: Final = 64 << 20
#: Rows that stand together in the table.
_TABLE_ROWS: Final = 16_384
#: Rows of a whole table that are written at once.
_SLICE_ROWS: Final = 4096
#: Twice as fast as the usual level 3, for a tenth more on the disk.
_LEVEL: Final = 1
_AGAIN: Final = "Run it again into the same folder with --force."


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows in the order they were read.

    Attributes:
        rows: Those that were kept, with all columns; there may be none.
        rejected: The others, as objects of ``rejected.jsonl``.
        n_bytes: About how long the texts of both are.
        envelopes: What of the files stands in no row, as objects of ``envelopes.jsonl``.
    """

    rows: pl.DataFrame
    rejected: Sequence[Mapping[str, Any]]
    n_bytes: int
    envelopes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the rows of a run stand.

    Attributes:
        folder: That of the run.
        mark: What is written into every footer.
    """

    folder: Path
    mark: Mapping[str, str] = field(default_factory=dict)

    def take(self, group: int, batches: Iterable[Batch]) -> int:
        """Write the rows of one group; at least one batch, which may be empty.

        Returns:
            How many were kept.
        """
        writing = _Group(self, group)
        for batch in batches:
            writing.add(batch)
        writing.end()
        return writing.n_rows

    def waiting(self) -> Iterator[pl.DataFrame]:
        """All rows that were taken, in order, without their texts."""
        for path in self._parts(TRAJECTORIES):
            yield pl.read_ipc(path)

    def settle(self, rows: Iterable[pl.DataFrame]) -> int:
        """Write the table, the rejected rows and the envelopes; what waited for that goes.

        Args:
            rows: What ``waiting`` gave, under the names that the rows have now.

        Returns:
            How many rows the table has.
        """
        write_atomically(self.folder / REJECTED, partial(_join, self._parts(REJECTED)))
        if parts := self._parts(ENVELOPES):
            write_atomically(self.folder / ENVELOPES, partial(_join, parts))
        count = self._write_table(rows)
        for name in _WAITING:
            for path in self._parts(name):
                path.unlink()
        return count

    def rejected(self) -> Iterator[dict[str, Any]]:
        """The rejected rows, as objects of ``rejected.jsonl``."""
        return _objects(self.folder / REJECTED)

    def envelopes(self) -> Iterator[dict[str, Any]]:
        """What of the files stands in no row, as objects of ``envelopes.jsonl``."""
        return _objects(self.folder / ENVELOPES)

    def take_out(self, is_gone: NDArray[np.bool_], rejected: Iterable[Mapping[str, Any]]) -> None:
        """Take rows out of the settled table and its texts.

        Args:
            is_gone: Which rows; those beyond its end stay. Shape (n,).
            rejected: The same rows as objects of ``rejected.jsonl``, made before they go.
        """
        more = self.folder / f".{REJECTED}.{'0' * 12}{PART_SUFFIX}"
        with refusals_told(more), more.open("wb") as stream:
            stream.writelines(map(json_line, rejected))
        old = self.folder / REJECTED
        write_atomically(old, partial(_join, [old, more]))
        more.unlink()
        self._write_table(_without(self.rows(), is_gone))
        first = 0
        for path in self._texts():
            part = _read_part(path, [_TIE, *TEXT_COLUMNS])
            (kept,) = _without([part], is_gone[first:])
            first += part.height
            if not kept.height:
                path.unlink()
            elif kept.height < part.height:
                self._write_texts(path, kept)

    def save(self, table: pl.DataFrame) -> None:
        """Write a whole table, its texts apart from it."""
        slices = table.iter_slices(_SLICE_ROWS)
        self.take(0, (Batch(rows, (), int(rows.estimated_size())) for rows in slices))
        self.settle(self.waiting())

    def rows(self) -> Iterator[pl.DataFrame]:
        """The table part by part, without texts; one part at least."""
        table, first = pl.scan_parquet(self.folder / TRAJECTORIES), 0
        while (part := table.slice(first, _TABLE_ROWS).collect()).height or not first:
            yield part
            first += _TABLE_ROWS

    def batches(self, *texts: str) -> Iterator[pl.DataFrame]:
        """The table piece by piece, each row with some of its texts.

        A piece is a group of rows that were packed together: some megabytes of texts.

        Raises:
            RunError: If the texts are not those of the table.
        """
        table, first = pl.scan_parquet(self.folder / TRAJECTORIES), 0
        n_rows = table.select(pl.len()).collect().item()
        for path in self._texts():
            rows = table.slice(first, _n_rows_of(path)).collect()
            start = 0
            for piece in _pieces_of(path, [_TIE, *texts]):
                known = rows[start : start + piece.height]
                if not known[_TIE].equals(piece[_TIE]):
                    raise _others(path)
                yield known.hstack(piece.drop(_TIE))
                start += piece.height
            first += start
        self._require_texts_of(n_rows, first)
        if not n_rows:
            nothing = [pl.lit(None, pl.String).alias(name) for name in texts]
            yield table.collect().with_columns(nothing)

    def lookup(self, *texts: str) -> Callable[[int], dict[str, Any]]:
        """A function from a row's place, 0 the first, to the row with some of its texts.

        Only the group of rows it stands in is unpacked. Where the texts of which rows stand is
        found out once, when this is called.

        Raises:
            RunError: Now or when a row is asked for, if the texts are not those of the table.
        """
        table, paths = pl.scan_parquet(self.folder / TRAJECTORIES), self._texts()
        ends = np.cumsum([0, *map(_n_rows_of, paths)])
        self._require_texts_of(table.select(pl.len()).collect().item(), int(ends[-1]))

        def row_at(place: int) -> dict[str, Any]:
            at = int(np.searchsorted(ends, place, side="right")) - 1
            with _damage_told(paths[at]):
                part = pl.scan_parquet(paths[at]).select(_TIE, *texts)
                found = part.slice(place - int(ends[at]), 1).collect().row(0, named=True)
            with _damage_told(self.folder / TRAJECTORIES):
                row = table.slice(place, 1).collect().row(0, named=True)
            if row[_TIE] != found[_TIE]:
                raise _others(paths[at])
            return row | found

        return row_at

    @property
    def conversations(self) -> Path:
        """The folder of the texts."""
        return self.folder / CONVERSATIONS

    def clear(self) -> None:
        """Remove the texts, and what waited or was being written when work broke off.

        What somebody else put into the folder of the texts stays.
        """
        for name in _WAITING:
            for path in self._parts(name):
                path.unlink(missing_ok=True)
        for pattern in ("[0-9]*-[0-9]*.parquet", f".[0-9]*-[0-9]*.parquet.*{PART_SUFFIX}"):
            for path in self.conversations.glob(pattern):
                path.unlink(missing_ok=True)
        if self.conversations.is_dir() and not any(self.conversations.iterdir()):
            self.conversations.rmdir()

    def keep(self, part: _Part, group: int, number: int) -> None:
        """Write a part, and what waits until all is read."""
        if part.n_rows:
            texts = part.texts()
            path = self.conversations / f"{group:05}-{number:05}.parquet"
            write_atomically(path, lambda stream: stream.write(texts))
        place = f"{group:06x}{number:06x}{PART_SUFFIX}"
        with refusals_told(self.folder):
            if part.rest:
                pl.concat(part.rest).write_ipc(self.folder / f".{TRAJECTORIES}.{place}")
            (self.folder / f".{REJECTED}.{place}").write_bytes(b"".join(part.rejected))
            if part.envelopes:
                (self.folder / f".{ENVELOPES}.{place}").write_bytes(b"".join(part.envelopes))

    def _write_table(self, frames: Iterable[pl.DataFrame]) -> int:
        """Write the table; gives back how many rows it has."""
        count = 0

        def table(stream: IO[bytes]) -> None:
            nonlocal count
            with closing(_Writer(stream, self.mark)) as writer:
                for frame in _cut(frames, _TABLE_ROWS):
                    writer.write(frame)
                    count += frame.height

        write_atomically(self.folder / TRAJECTORIES, table)
        return count

    def _texts(self) -> list[Path]:
        """The files of the texts, in the order of the rows."""
        return sorted(self.conversations.glob("*.parquet"))

    def _require_texts_of(self, n_rows: int, n_texts: int) -> None:
        if n_texts != n_rows:
            message = f"has the texts of {n_texts} rows, but {TRAJECTORIES} has {n_rows}"
            raise RunError(message, path=self.conversations, hint=_AGAIN)

    def _write_texts(self, path: Path, texts: pl.DataFrame) -> None:
        def fill(stream: IO[bytes]) -> None:
            with closing(_Writer(stream, self.mark, dictionary=_REPEATED)) as writer:
                for frame in _cut([texts], _SLICE_ROWS):
                    writer.write(frame)

        write_atomically(path, fill)

    def _parts(self, name: str) -> list[Path]:
        """What waits for a file; what is being written in its place has a shorter name."""
        return sorted(self.folder.glob(f".{name}.{'[0-9a-f]' * 12}{PART_SUFFIX}"))


class _Group:
    """Rows of one group on their way into files."""

    def __init__(self, storage: Storage, group: int) -> None:
        self.n_rows = 0
        self._storage, self._group, self._number = storage, group, 0
        self._part = _Part(storage.mark)

    def add(self, batch: Batch) -> None:
        self.n_rows += batch.rows.height
        self._part.add(batch)
        if self._part.is_full:
            self.end()

    def end(self) -> None:
        self._storage.keep(self._part, self._group, self._number)
        self._part = _Part(self._storage.mark)
        self._number += 1


class _Part:
    """Rows that will stand in one file.

    The texts are packed batch by batch, as long as the processor has them at hand; only what they
    are packed into grows.
    """

    def __init__(self, mark: Mapping[str, str]) -> None:
        self.n_rows = self._n_bytes = 0
        self.rest: list[pl.DataFrame] = []
        self.rejected: list[bytes] = []
        self.envelopes: list[bytes] = []
        self._packed = io.BytesIO()
        self._writer = _Writer(self._packed, mark, dictionary=_REPEATED)

    def add(self, batch: Batch) -> None:
        self._n_bytes += batch.n_bytes
        self.n_rows += batch.rows.height
        if batch.rows.height:
            self._writer.write(batch.rows[[_TIE, *TEXT_COLUMNS]])
        self.rest.append(batch.rows[[each for each in batch.rows.columns if each not in _TEXTS]])
        self.rejected += map(json_line, batch.rejected)
        self.envelopes += map(json_line, batch.envelopes)

    @property
    def is_full(self) -> bool:
        return self.n_rows >= _PART_ROWS or self._n_bytes >= _PART_BYTES

    def texts(self) -> memoryview:
        """The file of the texts, whole."""
        self._writer.close()
        return self._packed.getbuffer()


class _Writer:
    """Writes frames as Parquet, each as a group of rows; the same frames give the same bytes."""

    def __init__(
        self, stream: IO[bytes], mark: Mapping[str, str], *, dictionary: bool | list[str] = True
    ) -> None:
        self._stream, self._mark, self._dictionary = stream, mark, dictionary
        self._writer: Any = None

    def write(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow()
        if self._writer is None:
            import pyarrow.parquet as parquet

            self._writer = parquet.ParquetWriter(
                self._stream,
                table.schema.with_metadata(dict(self._mark)),
                compression="zstd",
                compression_level=_LEVEL,
                use_dictionary=self._dictionary,
                write_statistics=False,
            )
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _cut(frames: Iterable[pl.DataFrame], n_rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of so many rows each, but for the last; one frame at least."""
    waiting: list[pl.DataFrame] = []
    n_waiting = 0
    for frame in frames:
        waiting.append(frame)
        n_waiting += frame.height
        while n_waiting > n_rows:
            whole = pl.concat(waiting)
            yield whole[:n_rows]
            waiting = [whole[n_rows:]]
            n_waiting -= n_rows
    yield pl.concat(waiting)


def _without(frames: Iterable[pl.DataFrame], is_gone: NDArray[np.bool_]) -> Iterator[pl.DataFrame]:
    """The frames without some rows of all of them; those beyond the flags stay."""
    first = 0
    for frame in frames:
        stays = np.ones(frame.height, bool)
        here = is_gone[first : first + frame.height]
        stays[: len(here)] = ~here
        yield frame.filter(pl.Series(stays, dtype=pl.Boolean))
        first += frame.height


def _join(parts: Sequence[Path], stream: IO[bytes]) -> None:
    """Write files one after another."""
    for path in parts:
        with path.open("rb") as part:
            shutil.copyfileobj(part, stream)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file of ours; none where there is no such file."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                message = f"is not JSON: {error}"
                raise RunError(message, path=path, line=number, hint=_AGAIN) from error


def _n_rows_of(path: Path) -> int:
    with _damage_told(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _pieces_of(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of a file, one of its groups after another."""
    import pyarrow.parquet as parquet

    with _damage_told(path):  # polars opened it before, and what it opens, pyarrow does
        facts = parquet.read_metadata(path)
        sizes = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
    table, first = pl.scan_parquet(path).select(columns), 0
    for size in sizes:
        with _damage_told(path):
            piece = table.slice(first, size).collect()
        yield piece
        first += size


def _others(path: Path) -> RunError:
    message = f"holds the texts of other rows than {TRAJECTORIES} names"
    return RunError(message, path=path, hint=_AGAIN)


def _read_part(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    with _damage_told(path):
        return pl.read_parquet(path, columns=list(columns))


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say which file is read in this block where that fails."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"is no Parquet file that can be read: {error}"
        raise RunError(message, path=path, hint=_AGAIN) from error

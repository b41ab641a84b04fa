"""Parquet and Arrow: rows in batches, of which one is in memory at a time.

How a value of Arrow becomes a JSON value is told in `arrowvalues`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.containers.arrowvalues import rows_of
from trajweight.containers.bytestream import BrokenOffError
from trajweight.errors import DataError
from trajweight.jsontext import encode, without_non_finite
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    import pyarrow

    from trajweight.containers.bytestream import ByteStream

#: Rows are told in parts of about this many bytes.
_PART: Final = 4 << 20
_MOST_ROWS: Final = 1024
#: Bytes of a column that are read at once.
_BUFFER: Final = 1 << 20
#: What pyarrow raises at damage: its own errors are kinds of these.
_DAMAGE: Final = (
    *(ValueError, OSError, MemoryError, KeyError, IndexError, TypeError, RuntimeError),
    BrokenOffError,
)


def parquet(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file; what is damaged of a row group is one record with a fault.

    Raises:
        DataError: If its footer is damaged, or two columns have one name.
    """
    from pyarrow.parquet import ParquetFile

    def opened() -> Any:
        # Read ahead, a row group would be held whole.
        return ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)

    with _opened(path, opened) as file:
        _check_names(file.schema_arrow, path)
        number = 0
        for at in range(file.num_row_groups):
            group = file.metadata.row_group(at)
            size = _rows_at_once(group.total_byte_size, group.num_rows)
            batches = file.iter_batches(size, row_groups=[at], use_threads=False)
            end = number + group.num_rows
            yield from _records(batches, number, end, is_decoded=True)
            number = end


def arrow_file(path: Path) -> Iterator[Record]:
    """The rows of an Arrow IPC file; a batch that is damaged is one record with a fault.

    Raises:
        DataError: If its footer is damaged, or two columns have one name.
    """
    import pyarrow

    with _opened(path, lambda: pyarrow.memory_map(str(path))) as source:
        file = _opened(path, lambda: pyarrow.ipc.open_file(source))
        _check_names(file.schema, path)
        number = 0
        for at in range(file.num_record_batches):
            number = yield from _records(map(file.get_batch, (at,)), number)


def mapped_arrow_stream(path: Path) -> Iterator[Record]:
    """The rows of an Arrow stream in a plain file.

    Raises:
        DataError: See ``arrow_stream``.
    """
    import pyarrow

    with _opened(path, lambda: pyarrow.memory_map(str(path))) as source:
        yield from _stream_records(source, path)


def arrow_stream(stream: ByteStream, path: Path) -> Iterator[Record]:
    """The rows of an Arrow stream; from where it is damaged on, it is one record with a fault.

    Raises:
        DataError: If its schema is damaged, or two columns have one name.
    """
    import pyarrow

    yield from _stream_records(pyarrow.PythonFile(stream, mode="r"), path)


def _stream_records(source: Any, path: Path) -> Iterator[Record]:
    import pyarrow

    reader = _opened(path, lambda: pyarrow.ipc.open_stream(source))
    _check_names(reader.schema, path)
    yield from _records(iter(reader), 0)


def _opened(path: Path, opening: Callable[[], Any]) -> Any:
    """A file open, or the error that says how it is damaged."""
    try:
        return opening()
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> DataError:
    message = f"is damaged: {_said(error)}"
    return DataError(message, path=path, hint="Make or copy the file again.")


def _check_names(schema: pyarrow.Schema, path: Path) -> None:
    """Refuse names that stand twice, of which a row could keep only one."""
    try:
        name = _repeated_name(schema)
    except _DAMAGE as error:  # a name may be no text
        raise _damaged(path, error) from error
    if name:
        message = f"has two columns or fields of the name {name!r}"
        raise DataError(message, path=path, hint="Give one of them another name.")


def _repeated_name(kind: Any) -> str:
    import pyarrow
    from pyarrow import types

    is_schema = isinstance(kind, pyarrow.Schema)
    if isinstance(kind, pyarrow.BaseExtensionType):
        return _repeated_name(kind.storage_type)
    if not is_schema and not types.is_nested(kind):
        return ""
    fields = list(kind) if is_schema else [kind.field(at) for at in range(kind.num_fields)]
    names = [field.name for field in fields]
    if (is_schema or types.is_struct(kind)) and len(set(names)) < len(names):
        return str(next(name for name in names if names.count(name) > 1))
    return next((name for field in fields if (name := _repeated_name(field.type))), "")


def _records(
    batches: Iterator[pyarrow.RecordBatch],
    number: int,
    end: int | None = None,
    *,
    is_decoded: bool = False,
) -> Generator[Record, None, int]:
    """The rows of batches, which come after ``number`` others.

    Args:
        batches: Nothing of one is looked at before it was validated: what a file says of its
            parts may lead anywhere in memory.
        number: See above.
        end: The number of the last row, if known.
        is_decoded: Whether only its texts can be wrong, since all else was made here.

    Returns:
        The number of the last row, as far as rows could be counted.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return number
        except _DAMAGE as error:
            yield _lost(number, end, error)
            return end or number + 1
        try:
            batch.validate(full=True)
        except _DAMAGE as error:
            if is_decoded:
                yield from _one_by_one(batch, number)
            else:
                yield _lost(number, number + batch.num_rows, error)
        else:
            size = _rows_at_once(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, size):
                yield from _rows(batch.slice(start, size), number + start)
        number += batch.num_rows


def _rows(batch: pyarrow.RecordBatch, number: int) -> Iterator[Record]:
    """The rows of a batch that was validated; what cannot be told costs the row it stands in."""
    try:
        rows, has_non_finite = rows_of(batch)
    except _DAMAGE:
        yield from _one_by_one(batch, number)
        return
    for at, row in enumerate(rows, start=number + 1):
        if has_non_finite:
            value, found = without_non_finite(row)
            yield Record(at, value, non_finite=found)
        else:
            yield Record(at, row)


def _one_by_one(batch: pyarrow.RecordBatch, number: int) -> Iterator[Record]:
    """The rows of a batch whose texts may be no UTF-8, each by itself."""
    loose = batch.cast(_with_bytes(batch.schema))
    for at in range(batch.num_rows):
        row = loose.take([at])  # and no slice, which shares the texts of its neighbours
        try:
            values, _ = rows_of(row.cast(batch.schema))
            value, found = without_non_finite(values[0])
            yield Record(number + at + 1, value, non_finite=found)
        except _DAMAGE as wrong:
            fault = f"cannot be read: {_said(wrong)}"
            yield Record(number + at + 1, raw=_as_far_as_told(row), fault=fault)


def _as_far_as_told(row: pyarrow.RecordBatch) -> str:
    try:
        values, _ = rows_of(row)
        return encode(without_non_finite(values[0])[0])
    except _DAMAGE:
        return ""


def _with_bytes(kind: Any) -> Any:
    """A schema or type with bytes in place of text, which may be any."""
    import pyarrow
    from pyarrow import types

    if isinstance(kind, pyarrow.Schema):
        return pyarrow.schema([field.with_type(_with_bytes(field.type)) for field in kind])
    if types.is_string(kind):
        return pyarrow.binary()
    if types.is_large_string(kind):
        return pyarrow.large_binary()
    if types.is_list(kind):
        return pyarrow.list_(kind.value_field.with_type(_with_bytes(kind.value_type)))
    if types.is_large_list(kind):
        return pyarrow.large_list(kind.value_field.with_type(_with_bytes(kind.value_type)))
    if types.is_struct(kind):
        fields = (kind.field(at) for at in range(kind.num_fields))
        return pyarrow.struct([field.with_type(_with_bytes(field.type)) for field in fields])
    return kind


def _lost(number: int, end: int | None, error: BaseException) -> Record:
    """The one record for rows that cannot be read."""
    if end is None:
        rows = f"what begins with row {number + 1}"
    else:
        rows = f"rows {number + 1} to {end}" if end > number + 1 else f"row {end}"
    return Record(number + 1, raw="", fault=f"{rows} cannot be read: {_said(error)}")


def _said(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _rows_at_once(n_bytes: int, n_rows: int) -> int:
    """How many rows make a part, going by their mean size."""
    mean = max(1, n_bytes) / max(1, n_rows)
    return int(min(_MOST_ROWS, max(1, _PART / mean)))

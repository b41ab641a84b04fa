"""Arrow columns become the JSON values that their rows stand for, column by column.

What JSON has, stands as it is: text, numbers, truth values, lists, objects (structs, and maps whose
keys are text), null. The rest is told so that nothing is lost:

    decimal         a whole number where the type has no places, else the number with these digits,
                    as text where no float has them
    binary          its text where it is UTF-8, else ``base64:`` and the bytes in base64
    date, time      ISO 8601, with all the digits of the type
    timestamp       ISO 8601; with a time zone it is told in UTC and ends with Z
    duration        ISO 8601 in seconds: PT1.5S
    interval        a list of months, days and nanoseconds
    other maps      a list of objects with key and value
    arrow.json      the value that its text is
    arrow.uuid      its usual text
    other types     their storage
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from trajweight.jsontext import NotJsonError, decode_leniently

if TYPE_CHECKING:
    import pyarrow

_UNITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_OUT_OF_RANGE: Final = "<"  # how Arrow begins where a calendar has no such day


def rows_of(batch: pyarrow.RecordBatch) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a batch that was validated, and whether some number in them is not finite.

    Raises:
        ValueError: If a value cannot be told.
    """
    teller = _Teller()
    columns = [teller.values(column) for column in batch.columns]
    names = batch.schema.names
    if not columns:
        return [{} for _ in range(batch.num_rows)], False
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows, teller.has_non_finite


class _Teller:
    """Tells values, and remembers whether a number was not finite."""

    def __init__(self) -> None:
        self.has_non_finite = False

    def values(self, array: Any) -> list[Any]:
        import pyarrow
        from pyarrow import compute, types

        kind = array.type
        if isinstance(kind, pyarrow.BaseExtensionType):
            return self._extension(array)
        if types.is_dictionary(kind):
            words = self.values(array.dictionary)
            return [None if at is None else words[at] for at in array.indices.to_pylist()]
        if types.is_run_end_encoded(kind):
            return self.values(compute.run_end_decode(array))
        if types.is_struct(kind):
            return self._structs(array)
        if types.is_map(kind):
            return self._maps(array)
        if types.is_nested(kind) and not types.is_union(kind):
            return self._lists(array)
        return self._leaves(array)

    def _structs(self, array: Any) -> list[Any]:
        names = [array.type.field(at).name for at in range(array.type.num_fields)]
        columns = [self.values(column) for column in array.flatten()]
        cells = zip(*columns, strict=True) if columns else [()] * len(array)
        rows: list[Any] = [dict(zip(names, row, strict=True)) for row in cells]
        if not array.null_count:
            return rows
        there = array.is_valid().to_pylist()
        return [row if is_there else None for row, is_there in zip(rows, there, strict=True)]

    def _lists(self, array: Any) -> list[Any]:
        from pyarrow import compute

        flat = self.values(array.flatten())  # without what null lists and other slices hold
        lists: list[Any] = []
        start = 0
        for length in compute.list_value_length(array).to_pylist():
            if length is None:
                lists.append(None)
            else:
                lists.append(flat[start : start + length])
                start += length
        return lists

    def _maps(self, array: Any) -> list[Any]:
        import pyarrow
        from pyarrow import types

        kind = array.type
        pair = pyarrow.struct([("key", kind.key_type), ("value", kind.item_type)])
        maps = self._lists(array.cast(pyarrow.list_(pair)))
        has_names = types.is_string(kind.key_type) or types.is_large_string(kind.key_type)
        return [_object(pairs) if has_names else pairs for pairs in maps]

    def _extension(self, array: Any) -> list[Any]:
        values = array.storage
        name = array.type.extension_name
        if name == "arrow.json":
            return [None if text is None else self._json(text) for text in self.values(values)]
        if name == "arrow.uuid":
            return [None if each is None else str(uuid.UUID(bytes=each)) for each in _raw(values)]
        if name == "arrow.bool8":
            return [None if each is None else bool(each) for each in values.to_pylist()]
        return self.values(values)

    def _json(self, text: str) -> Any:
        """The value of a text, NaN left for who looks for them; the text where it is no JSON."""
        try:
            value, non_finite = decode_leniently(text)
        except NotJsonError:
            return text
        if not non_finite:
            return value
        self.has_non_finite = True
        return json.loads(text)

    def _leaves(self, array: Any) -> list[Any]:
        from pyarrow import compute, types

        kind = array.type
        if types.is_string(kind) or types.is_large_string(kind):
            told: list[Any] = array.to_numpy(zero_copy_only=False).tolist()  # faster than to_pylist
            return told
        if types.is_floating(kind):
            self.has_non_finite |= compute.all(compute.is_finite(array)).as_py() is False
            return [None if each is None else float(each) for each in array.to_pylist()]
        if types.is_temporal(kind):
            return _times(array)
        plain: list[Any] = _raw(array)
        if types.is_decimal(kind):
            return [None if each is None else _number(each) for each in plain]
        if not (types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind)):
            return [_plain(each) for each in plain]
        return plain


def _raw(array: Any) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _object(pairs: list[dict[str, Any]] | None) -> Any:
    """A map as an object, unless a key stands twice."""
    if pairs is None:
        return None
    found = {pair["key"]: pair["value"] for pair in pairs}
    return found if len(found) == len(pairs) else pairs


def _number(value: Decimal) -> int | float | str:
    if int(value.as_tuple().exponent) >= 0:
        return int(value)
    near = float(value)
    return near if math.isfinite(near) and Decimal(repr(near)) == value else str(value)


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(value).decode()}"


def _plain(value: Any) -> Any:
    """What is left: bytes, and what only unions hold."""
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _times(array: Any) -> list[Any]:
    """Times as ISO 8601."""
    import pyarrow
    from pyarrow import types

    kind = array.type
    if types.is_interval(kind):
        return [None if each is None else list(each) for each in array.to_pylist()]
    if types.is_duration(kind):
        counts = array.view(pyarrow.int64()).to_pylist()
        return [None if n is None else _duration(n, _UNITS[kind.unit]) for n in counts]
    if not types.is_timestamp(kind):
        return _raw(array.cast(pyarrow.string()))
    counts = array.view(pyarrow.int64())
    texts = counts.view(pyarrow.timestamp(kind.unit)).cast(pyarrow.string()).to_pylist()
    zone = "Z" if kind.tz else ""
    return [
        count if text is None or text.startswith(_OUT_OF_RANGE) else text.replace(" ", "T") + zone
        for text, count in zip(texts, counts.to_pylist(), strict=True)
    ]


def _duration(count: int, places: int) -> str:
    seconds = Decimal(count).scaleb(-places).normalize()
    return f"PT{seconds:f}S"

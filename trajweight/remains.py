"""What of a file's records stands in no row, kept so that the file can be written again.

Most records are one row each, which gives them back by itself. A document of many rows is kept
once, with null where its rows stood; a record that rows tell only in part is kept as it stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trajweight.jsontext import NotJsonError, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.formats.protocol import Item
    from trajweight.records import Record

Line = dict[str, Any]
_Path = tuple[str | int, ...]
_HOLDERS: Final = (dict, list)


class RowNumbers:
    """Numbers the rows of each file anew, from 0: kept rows have those that no rejected one has.

    The kept rows of a file must be asked for in their order.
    """

    def __init__(self, rejected: Mapping[str, set[int]]) -> None:
        """Of files whose rejected rows have these numbers."""
        self._rejected = rejected
        self._next: dict[str, int] = {}

    @classmethod
    def of(cls, rejected: Iterable[Mapping[str, Any]]) -> RowNumbers:
        """By the objects of ``rejected.jsonl``."""
        numbers: dict[str, set[int]] = {}
        for each in rejected:
            numbers.setdefault(each["path"], set()).add(each["row"])
        return cls(numbers)

    def next(self, path: str) -> int:
        """The number of the next kept row of a file."""
        taken = self._rejected.get(path, ())
        number = self._next.get(path, 0)
        while number in taken:
            number += 1
        self._next[path] = number + 1
        return number


def is_record(item: Item) -> bool:
    """Whether a row is one whole record of its file, and nothing else."""
    return not item.numbers and item.value is _at(item.record.value, item.record.place)


@dataclass(frozen=True, slots=True)
class _Part:
    """A row and what it holds of one record.

    Attributes:
        row: Its number among the rows of the file, from 0.
        value: What it holds.
        is_row: Whether the row is this and nothing else; else it holds several records.
    """

    row: int
    value: Any
    is_row: bool


class _Pending:
    """A record that the format has, and the rows that it made of it so far.

    Attributes:
        record: The record.
        parts: The rows.
        is_row: Whether the first row is the record and nothing else, as is most often so; it is
            then not among the parts.
        row: Its number.
    """

    __slots__ = ("is_row", "parts", "record", "row")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.parts: list[_Part] = []
        self.is_row, self.row = False, -1


class Remains:
    """Follows the records of one file into its rows, and keeps what no row gives back.

    A line is an object of ``envelopes.jsonl``. The first says of the file what it was: ``path`` and
    ``container``. Where rows come in another order than their records, one says ``in_order``:
    false. Each of the others is about one ``record``:

        row                  it is this row, though the row's own place does not say so
        envelope_json, rows  it is this, with these rows at these paths, as [row, [key, ...]]
        text                 it stood like this
        parts                rows that hold a part of it, and are no record of their own

    Rows are told by their number among all rows of the file, from 0, kept or rejected.
    """

    def __init__(self, path: str, container: str) -> None:
        """Of a file that is read from its beginning."""
        self._path = path
        self._lines: list[Line] = [{"path": path, "container": container}]
        self._pending: dict[int, _Pending] = {}
        self._last = 0  # the number of the last record that a row was made of
        self._is_in_order = True

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, noted as they are taken."""
        last: _Pending | None = None
        for record in records:
            if last is not None and last.is_row and not last.parts and len(self._pending) == 1:
                self._pending.clear()  # what most records come to, told quickly
            else:
                self._settle(only_begun=True)
            self._pending[record.number] = last = _Pending(record)
            yield record

    def take(self, item: Item, row: int, *, is_written: bool = True) -> None:
        """Note what a row was made of.

        Args:
            item: What the format gave.
            row: The number of the row.
            is_written: Whether its value can be had again from what the run keeps of the row.
        """
        number = item.record.number
        if number < self._last and self._is_in_order:
            self._is_in_order = False
            self._lines.append({"path": self._path, "in_order": False})
        self._last = number
        pending = self._pending.get(number)
        if (
            pending is not None
            and item.value is pending.record.value
            and is_written
            and not (item.numbers or pending.record.place or pending.is_row or pending.parts)
        ):
            pending.is_row, pending.row = True, row
            return
        if not item.numbers:
            self._add(number, _Part(row, item.value if is_written else None, is_row=True))
            return
        values = item.value if is_written else [None] * len(item.numbers)
        for number, value in zip(item.numbers, values, strict=False):
            self._add(number, _Part(row, value, is_row=False))

    def lines(self) -> list[Line]:
        """What is to be kept and was not given before."""
        lines, self._lines = self._lines, []
        return lines

    def last_lines(self, *, is_whole: bool = True) -> list[Line]:
        """The same, when no more rows come.

        Args:
            is_whole: Whether the file was read to its end; else records of which no row was made
                may have been looked at only.
        """
        self._settle(only_begun=not is_whole)
        return self.lines()

    def _add(self, number: int, part: _Part) -> None:
        if number in self._pending:
            self._pending[number].parts.append(part)
        elif part.is_row:  # a row more of a record that was settled
            self._keep(number, parts=[part.row])

    def _settle(self, *, only_begun: bool) -> None:
        """Keep of each record what its rows do not give back.

        Args:
            only_begun: Leave out those that no row was made of yet; the format holds them still.
        """
        for number, pending in tuple(self._pending.items()):
            if pending.is_row or pending.parts or not only_begun:
                del self._pending[number]
                if pending.parts or not pending.is_row:
                    self._settle_one(pending)

    def _settle_one(self, pending: _Pending) -> None:
        record, parts = pending.record, pending.parts
        if pending.is_row:
            parts = [_Part(pending.row, record.value, is_row=True), *parts]
        own = _at(record.value, record.place)
        whole = next((part for part in parts if part.value is own), None)
        others = [part.row for part in parts if part.is_row and part is not whole]
        if whole is not None:
            if whole.is_row and record.place:
                self._keep(record.number, row=whole.row, parts=others)
            elif others:
                self._keep(record.number, parts=others)
            return
        rows = {id(part.value): part.row for part in parts if part.is_row}
        # A value that holds nothing may stand anywhere, so it stays where it is in the envelope.
        wanted = {key: row for key, row in rows.items() if key in _ids_of_holders(parts)}
        try:
            found: list[tuple[int, list[str | int]]] = []
            envelope = encode(_cut(own, wanted, (), found))
            is_told = len(found) == len(wanted) and all(part.is_row for part in parts)
        except (NotJsonError, RecursionError):
            is_told, envelope, found = False, "", []
        if is_told and parts:
            placed = {row for row, _ in found}
            rest = [row for row in others if row not in placed]
            self._keep(record.number, envelope_json=envelope, rows=found, parts=rest)
        else:
            self._keep(record.number, **_text_of(record, own), parts=others)

    def _keep(self, number: int, **facts: Any) -> None:
        told = {key: value for key, value in facts.items() if value != []}
        self._lines.append({"path": self._path, "record": number, **told})


def _ids_of_holders(parts: Iterable[_Part]) -> set[int]:
    return {id(part.value) for part in parts if isinstance(part.value, _HOLDERS)}


def _cut(
    value: Any, wanted: dict[int, int], path: _Path, found: list[tuple[int, list[str | int]]]
) -> Any:
    """The value with null for each wanted one in it; what holds none is shared, not copied.

    Args:
        value: Where to look.
        wanted: Numbers of rows, by the identity of their values.
        path: Where the value stands.
        found: Gets the number and the path of each that is found.
    """
    if (row := wanted.get(id(value))) is not None:
        found.append((row, list(path)))
        return None
    if isinstance(value, dict):
        inside: Iterable[tuple[str | int, Any]] = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    else:
        return value
    changed = {}
    for key, item in inside:
        if isinstance(item, _HOLDERS):
            now = _cut(item, wanted, (*path, key), found)
            if now is not item:
                changed[key] = now
    if not changed:
        return value
    if isinstance(value, dict):
        return {**value, **changed}
    return [changed.get(place, item) for place, item in enumerate(value)]


def _at(value: Any, place: _Path) -> Any:
    for key in place:
        value = value[key]
    return value


def _text_of(record: Record, own: Any) -> dict[str, str]:
    """The record as it stood, without what a container put around it; none if nothing can be."""
    try:
        return {"text": record.text if record.raw is not None else encode(own)}
    except NotJsonError:
        return {}

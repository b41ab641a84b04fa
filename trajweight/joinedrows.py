"""Rows to be joined: each as it stood, with what it is called and a hash of what it says.

Rows that are no conversation, such as rows of tokens, have no such hash; their id may still be
known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from trajweight.fields import SHARED_FIELDS
from trajweight.formats import Item, UnusableError, detect
from trajweight.formats.lookup import look_up
from trajweight.jsontext import NotJsonError
from trajweight.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from trajweight.containers import Source
    from trajweight.records import Record
    from trajweight.rows import Layout, RowMaker

#: Records by which it is seen whether a file holds conversations.
_SAMPLE: Final = 32


@dataclass(frozen=True, slots=True)
class JoinRow:
    """A row of the data.

    Attributes:
        value: The row as it stood.
        path: Its file.
        number: Its line, or its position from 1.
        name: What a field says it is called; None where none does. Its place is no name.
        content: SHA-256 over its messages and tools; None where it has no conversation.
        fault: Why it cannot be used at all; empty when it can.
    """

    value: Any
    path: str
    number: int
    name: str | None = None
    content: str | None = None
    fault: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        name = f" ({self.name})" if self.name is not None else ""
        return f"{self.path}:{self.number}{name}"

    def told(self, why: str) -> dict[str, Any]:
        """The row as a line of a list."""
        return {"path": self.path, "line": self.number, "id": self.name, "why": why}


def rows_to_join(source: Source, maker: RowMaker, layout: Layout) -> Iterator[JoinRow]:
    """The rows of a file, in order; every one of them, whatever is wrong with it.

    Args:
        source: The file.
        maker: Makes rows of conversations, by the same layout.
        layout: What the user said of the format and of where the id stands.

    Raises:
        DataError: If the file cannot be read.
    """
    records = iter(source.records())
    begun = _Begun(source, list(islice(records, _SAMPLE)), records)
    mapped = layout.mapped.get("id")
    paths = SHARED_FIELDS["id"] if mapped is None else (mapped,)
    if layout.form is None and not _has_conversations(begun):
        items: Iterable[Item] = (Item(each.value, each.number, each) for each in begun.records())
        for item in items:
            yield _row(item, str(source.path), paths)
        return
    for item in maker.opened(begun):
        yield _made(item, maker, paths)


def _made(item: Item, maker: RowMaker, paths: tuple[str, ...]) -> JoinRow:
    """A row of a file of conversations."""
    file = maker.file
    if item.numbers:  # several records, which no one row holds
        fault = item.record.fault or "made of several records, which no one line holds"
        return JoinRow(item.value, file.path, item.number, fault=fault)
    try:
        made = maker.made(item)
    except (UnusableError, NotJsonError):
        return _row(item, file.path, paths)
    name: str | None = made["traj_id"]
    if name == f"{file.stem}:{item.number}":
        name = _said(item.value, paths)
    return JoinRow(item.value, file.path, item.number, name, made["content_sha256"])


def _row(item: Item, path: str, paths: tuple[str, ...]) -> JoinRow:
    """A row that is no conversation that can be understood."""
    if item.record.fault:
        return JoinRow(None, path, item.number, fault=item.record.fault)
    return JoinRow(item.value, path, item.number, _said(item.value, paths))


def _said(value: Any, paths: tuple[str, ...]) -> str | None:
    """What the first field that names a row says."""
    for path in paths:
        found = look_up(value, path)
        is_named = isinstance(found, str | int | float) and not isinstance(found, bool)
        if is_named and not str(found).isspace() and str(found):
            return str(found)
    return None


def _has_conversations(begun: _Begun) -> bool:
    """Whether any of the first records tells a format."""
    values = tuple(record.value for record in begun.first if not record.fault)
    return any(
        detect(Sample(begun.path, begun.container, values[start:], dict(begun.hints))) is not None
        for start in range(len(values))
    )


@dataclass(slots=True)
class _Begun:
    """A source whose first records were looked at; it can be read once."""

    source: Source
    first: list[Record]
    rest: Iterator[Record]
    path: Path = field(init=False)
    container: str = field(init=False)
    hints: Mapping[str, Any] = field(init=False)
    within: Path | None = field(init=False)
    comes_once: bool = field(init=False)

    def __post_init__(self) -> None:
        self.path, self.container = self.source.path, self.source.container
        self.hints, self.within = self.source.hints, self.source.within
        self.comes_once = True

    def records(self) -> Iterator[Record]:
        """See `Source`."""
        return chain(self.first, self.rest)

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return self.source.facts()

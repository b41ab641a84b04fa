"""What a format is: it knows its records by their content and tells their turns canonically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from trajweight.formats.lookup import look_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record, Sample

Row = dict[str, Any]


class UnusableError(Exception):
    """A row cannot be used; the message is the reason, without the place."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one trajectory is made from: a record, a part of one, or several together.

    Attributes:
        value: The row as it stood: what ``original_row`` gives back.
        number: What names its place to people: the line, or the position from 1.
        numbers: Of several records, all their numbers; empty where the row is one record.
        envelope: The document around the row, its list of rows null; None where there is none.
        hints: See ``Sample``.
        fault: Why there is no value; empty when there is one.
        record: The record it came from, the first of several.
    """

    value: Any
    number: int
    record: Record
    numbers: tuple[int, ...] = ()
    envelope: Row | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Canonical:
    """A row's conversation in the one form that the rest of the house knows.

    Attributes:
        messages: Objects ``{"role", "content"}`` in order, where the role is one of
            ``trajectory.ROLES`` and the content is text. Optional keys, left out when empty:
            ``tool_calls`` (a list of ``{"id", "name", "arguments"}``), ``tool_call_id``,
            ``reasoning``, and ``untrained`` (true on an assistant turn that is shown to the model
            and never trained on).
        tools: Tool definitions as the row gives them; empty when there are none.
        remarks: What the user should know though the row is kept; each says its turn.
        said: Scalars that no single field of the row holds: by what they are (id, source, task,
            group, reward, success, origin) the value and, in words, how it was found.
    """

    messages: list[Row]
    tools: list[Row]
    remarks: tuple[str, ...] = ()
    said: Mapping[str, tuple[Any, str]] = field(default_factory=dict)


class Format(ABC):
    """One way that trajectories are written; a file under ``trajweight/formats`` each.

    A new one needs ``name``, ``title``, ``lacks`` and ``canonical``. Formats are values without
    state: the registry holds one of each.

    Attributes:
        name: Short and stable; kept in the column ``origin_format`` and typed after ``--format``.
        title: What people call it.
        rows_at: Where the rows of a document stand, as a dotted path; empty where a record is one
            row.
        fields: Dotted paths of the row that hold a scalar (id, source, task, group, reward,
            success, origin), asked before the names that all formats share.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rows_at: ClassVar[str] = ""
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def lacks(self, value: Any) -> tuple[str, ...]:
        """What a record would need to be of this format; nothing when it is. Never raises.

        Each is a short phrase such as "a key messages"; the fewer, the nearer.
        """

    @abstractmethod
    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row that lacks nothing.

        Raises:
            UnusableError: If the row cannot be trained on or understood.
        """

    def matches(self, sample: Sample) -> bool:
        """Whether the records of a file are of this format; cheap, and never raises."""
        return bool(sample.values) and not self.lacks(sample.values[0])

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """The rows that the records hold, in order; every record is in one row at least.

        By default a record is a row, or a document with a list of rows at ``rows_at``. A format
        whose rows are made of several records overrides this.
        """
        for record in records:
            if self.rows_at and not record.fault and not self.lacks(record.value):
                yield from self._parts(record, hints)
            else:
                yield Item(record.value, record.number, record, hints=hints)

    def restored(self, canonical: Canonical) -> Row:  # noqa: ARG002 - for those that override it
        """The plainest values that would be read as this conversation, by key of the row.

        A value that equals the row's own is stored only once, in the canonical columns. So
        a key may be named only if the row, where it has the key at all, has it not null.
        """
        return {}

    def _parts(self, record: Record, hints: Mapping[str, Any]) -> Iterator[Item]:
        rows, envelope = look_up(record.value, self.rows_at), _without(record.value, self.rows_at)
        for number, row in enumerate(rows, start=1):
            yield Item(row, number, record, envelope=envelope, hints=hints)


def _without(document: Row, path: str) -> Row:
    """The document with null at the path; what is not on the way is shared, not copied."""
    key, _, rest = path.partition(".")
    return {**document, key: _without(document[key], rest) if rest else None}

"""What a format is: it recognises a row by its content and tells its turns canonically."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Row = dict[str, Any]


class UnusableError(Exception):
    """A row cannot be used; the message is the reason, without the place."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A row's conversation in the one form that the rest of the house knows.

    Attributes:
        messages: Objects ``{"role", "content"}`` in order, where the role is one of
            ``trajectory.ROLES`` and the content is text. Optional keys, left out when empty:
            ``tool_calls`` (a list of ``{"id", "name", "arguments"}``), ``tool_call_id``,
            ``reasoning``.
        tools: Tool definitions as the row gives them; empty when there are none.
        remarks: What the user should know though the row is kept; each says its turn.
    """

    messages: list[Row]
    tools: list[Row]
    remarks: tuple[str, ...] = ()


class Format(Protocol):
    """A module under ``trajweight/formats`` with these names is a format."""

    @property
    def NAME(self) -> str:
        """A short stable name, kept in the column ``origin_format``."""

    @property
    def TITLE(self) -> str:
        """The name that people know the format by."""

    def matches(self, row: Row) -> bool:
        """Whether the row's content is of this format; cheap, and never raises."""

    def canonical(self, row: Row) -> Canonical:
        """The conversation of a row that ``matches``.

        Raises:
            UnusableError: If the row cannot be trained on or understood.
        """

    def restored(self, canonical: Canonical) -> Row:
        """The plainest values that would be read as this conversation, by key of the row.

        A value that equals the row's own is stored only once, in the canonical columns. So
        a key may be named only if the row, where it has the key at all, has it not null.
        """

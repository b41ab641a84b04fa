"""What stands in a file before anybody knows what it means: JSON values, each with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trajweight.jsontext import NonFinite, encode

if TYPE_CHECKING:
    from pathlib import Path


# Not frozen: one is made for every line, and making a frozen one takes several times as long.
@dataclass(slots=True)
class Record:
    """One JSON value of a file, or what stood where one was expected; nobody changes it.

    Attributes:
        number: Its line in a file of JSON lines; elsewhere its position, from 1.
        value: The value; None where ``fault`` says why there is none.
        raw: The bytes or the text it was read from; None where a container holds no text of it.
        fault: Why it cannot be used; empty when it can.
        non_finite: NaN and infinities, which were read as null.
        remarks: What else the user should know though it can be used.
        place: Keys and positions that lead to the record in its value, where a container put
            something around it.
    """

    number: int
    value: Any = None
    raw: bytes | str | None = None
    fault: str = ""
    non_finite: tuple[NonFinite, ...] = ()
    remarks: tuple[str, ...] = ()
    place: tuple[str | int, ...] = ()

    @property
    def text(self) -> str:
        """The record as it stood; bytes that are not UTF-8 are written with a backslash and x."""
        if self.raw is None:
            return encode(self.value)
        return self.raw if isinstance(self.raw, str) else self.raw.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Sample:
    """What formats are told apart by: a file's name and its first records.

    Attributes:
        path: The file.
        container: What the records stand in, in words: JSON lines, a JSON document, Parquet.
        values: The values of the first records that could be read.
        hints: What an index beside the file says of it, such as the names of its columns.
    """

    path: Path
    container: str
    values: tuple[Any, ...]
    hints: dict[str, Any]

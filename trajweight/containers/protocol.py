"""What a container is: a file that gives its records, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trajweight.records import Record


class Source(Protocol):
    """A file that can be read, seen from outside."""

    @property
    def path(self) -> Path:
        """The file, as the user gave it or as it was found below what they gave; ``-`` is stdin."""

    @property
    def container(self) -> str:
        """What it is, in words: JSON lines, JSON array, JSON document, Parquet, Arrow file.

        Raises:
            DataError: If the file cannot be opened, or is of a kind that is not read.
        """

    @property
    def hints(self) -> Mapping[str, Any]:
        """What an index beside the file says of it, such as the names of its columns."""

    @property
    def within(self) -> Path | None:
        """The folder or pattern that the file was found by; None where the user named it."""

    @property
    def comes_once(self) -> bool:
        """Whether it can be read only once and by this process alone, as standard input."""

    def records(self) -> Iterator[Record]:
        """Its records in order, in one pass that holds one of them at a time.

        What is damaged comes as a record with a fault, so that it is counted.

        Raises:
            DataError: If the file cannot be opened, or is no container that is known.
        """

    def facts(self) -> dict[str, Any]:
        """Name, size and SHA-256 of the file, as `manifest.input_facts` tells them.

        Size and hash are those of the bytes that ``records`` read; until it has given the last
        record the hash is None, and so is the size of what is no regular file.
        """

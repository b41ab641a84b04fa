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
        """The file, as the user gave it or as it was found in the folder that they gave."""

    @property
    def container(self) -> str:
        """What it is, in words: JSON lines, a JSON array, Parquet."""

    @property
    def hints(self) -> Mapping[str, Any]:
        """What an index beside the file says of it, such as the names of its columns."""

    def records(self) -> Iterator[Record]:
        """Its records in order, in one pass that holds one of them at a time.

        What is damaged comes as a record with a fault, so that it is counted.

        Raises:
            DataError: If the file cannot be opened, or is no container that is known.
        """

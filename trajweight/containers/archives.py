"""Zip archives: logs of Inspect are read as they are; of any other it is said what it holds.

Nothing is ever unpacked to disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.containers import inspect_log
from trajweight.containers.hashing import hashed_after, size_of
from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trajweight.containers.finding import Found
    from trajweight.records import Record

_NAMES_TOLD: Final = 5


class LogSource:
    """A log of Inspect; what its properties and methods promise stands at `Source`."""

    comes_once = False

    def __init__(self, found: Found) -> None:
        """See that it is one, and read its header.

        Raises:
            DataError: If it is any other archive, or damaged.
            MissingError: If it is packed so that a package is needed that is not here.
        """
        _require_log(found.path)
        self._found = found
        self._log = inspect_log.open(found.path)
        self._facts: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        """See `Source`."""
        return self._found.path

    @property
    def container(self) -> str:
        """See `Source`."""
        return self._log.container

    @property
    def hints(self) -> Mapping[str, Any]:
        """See `Source`."""
        return self._log.hints

    @property
    def within(self) -> Path | None:
        """See `Source`."""
        return self._found.within

    def records(self) -> Iterator[Record]:
        """See `Source`."""
        self._facts = yield from hashed_after(self._log.records(), self.path)

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return self._facts or size_of(self.path)


def _require_log(path: Path) -> None:
    with inspect_log.opened(path) as archive:
        names = archive.namelist()
    if inspect_log.holds_log(names):
        return
    files = [name for name in names if not name.endswith("/")]
    some = ", ".join(repr(name) for name in files[:_NAMES_TOLD])
    more = f" and {len(files) - _NAMES_TOLD} more" if len(files) > _NAMES_TOLD else ""
    message = f"is a zip archive and no Inspect log; it holds {some or 'nothing'}{more}"
    raise DataError(message, path=path, hint="Unpack it, and pass the files in it.")

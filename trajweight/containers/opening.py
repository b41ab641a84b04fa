"""From a path to a source: what a file is, is seen from its first bytes and never from its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trajweight.containers import jsonlines
from trajweight.containers.jsonlines import check_readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trajweight.containers.protocol import Source
    from trajweight.records import Record

__all__ = ["check_readable", "open_source"]


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of JSON lines."""

    path: Path
    container: str = "JSON lines"
    hints: Mapping[str, Any] = field(default_factory=dict)

    def records(self) -> Iterator[Record]:
        """One value a line that is not blank."""
        return jsonlines.records(self.path)


def open_source(path: Path) -> Source:
    """The source that a path is."""
    return JsonLines(path)

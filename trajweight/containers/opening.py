"""From what the user named to sources: what a file is, is seen from its bytes, not its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.containers import sniffing
from trajweight.containers.archives import LogSource
from trajweight.containers.filesource import FileSource
from trajweight.containers.finding import STDIN, find
from trajweight.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.containers.finding import Found
    from trajweight.containers.protocol import Source


@dataclass(frozen=True, slots=True)
class Sources:
    """All that one name of the user stands for.

    Attributes:
        sources: The files to read, in order.
        indexes: Files that were read to find them, and may say something of them.
        notes: What is left out, and why.
    """

    sources: list[Source]
    indexes: list[Path]
    notes: list[str]


def sources_of(path: Path) -> Sources:
    """The sources that a file, a folder, a pattern or ``-`` for standard input stands for.

    Raises:
        DataError: If there is nothing of that name, or nothing in it that can be read.
    """
    finding = find(path)
    return Sources([_source(found) for found in finding.files], finding.indexes, finding.notes)


def open_source(path: Path) -> Source:
    """The source that one file is.

    Raises:
        DataError: If it is missing, an archive of something else than an Inspect log, or a folder.
    """
    if path.is_dir():
        message = "is a folder"
        raise DataError(message, path=path, hint=f"Pass a file in it, such as {path / '*.jsonl'}")
    return sources_of(path).sources[0]


def _source(found: Found) -> Source:
    """The source that a file is; of an archive it is seen at once what it holds."""
    if found.path != STDIN and sniffing.is_zip(found.path):
        return LogSource(found)
    return FileSource(found)

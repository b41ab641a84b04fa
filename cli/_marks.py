"""The rows that a reader marked, as JSON lines of ``id``, ``weight`` and, where given, ``note``."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from trajweight.cli._output import require_free_file
from trajweight.errors import DataError
from trajweight.files import write_jsonl
from trajweight.jsontext import NotJsonError, decode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl

    from trajweight.run import Run

_KEYS: Final = frozenset({"id", "weight", "note"})
_HINT: Final = "Give another --out, or start without these marks by --force."


@dataclass(slots=True)
class Marks:
    """Marks by the id of their row, in the order they were set.

    Attributes:
        path: The file.
        notes: Id to note; empty where there is none.
        is_written: Whether the file holds what is here.
        strangers: Marks in the file of rows that the run does not have; they are kept.
    """

    path: Path
    notes: dict[str, str] = field(default_factory=dict)
    is_written: bool = True
    strangers: list[dict[str, Any]] = field(default_factory=list)

    def toggle(self, name: str) -> None:
        """Mark a row, or take its mark away with its note."""
        if name in self.notes:
            del self.notes[name]
        else:
            self.notes[name] = ""
        self.is_written = False

    def note(self, name: str, text: str) -> None:
        """Mark a row and say why."""
        self.notes[name] = text
        self.is_written = False

    def write(self, weights: Mapping[str, float | None]) -> int:
        """Write the file whole; gives back how many lines it has.

        Args:
            weights: Of the marked rows by their ids.

        Raises:
            TrajweightError: If it cannot be written.
        """
        lines = [
            {"id": name, "weight": weights[name]} | ({"note": note} if note else {})
            for name, note in self.notes.items()
        ]
        written = write_jsonl(self.path, [*self.strangers, *lines])
        self.is_written = True
        return written


def load_marks(path: Path, ids: pl.Series, *, force: bool = False) -> Marks:
    """The marks of a file, to go on with; none where there is no file.

    Args:
        path: The file.
        ids: Of all rows of the run.
        force: Begin without marks, whatever the file holds.

    Raises:
        DataError: If the file holds something else than marks.
    """
    marks = Marks(path)
    if force or not path.exists():
        return marks
    found = [_mark(line, path, number) for number, line in enumerate(_lines(path), start=1)]
    known = set(ids.filter(ids.is_in([mark["id"] for mark in found])))
    for number, mark in enumerate(found, start=1):
        if mark["id"] in known:
            if more := set(mark) - _KEYS:  # a row of somebody's data, which would be written over
                message = f"is no mark: it has {', '.join(sorted(more))} besides"
                raise DataError(message, path=path, line=number, hint=_HINT)
            marks.notes[mark["id"]] = mark.get("note", "")
        else:
            marks.strangers.append(mark)
    return marks


def marks_file(out: Path | None, run: Run) -> Path:
    """Where the marks of a run are written; what stands there is gone on with.

    Args:
        out: As the user gave it.
        run: The run.

    Raises:
        ConfigError: If the path is a folder, or part of the run itself.
    """
    path = run.folder / "marks.jsonl" if out is None else out
    require_free_file(path, force=True, runs=(run,))
    return path


def _lines(path: Path) -> list[bytes]:
    """The lines of the file, unpacked as they were packed."""
    packed = path.read_bytes()
    try:
        return (gzip.decompress(packed) if path.suffix == ".gz" else packed).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        message = f"cannot be unpacked: {error}"
        raise DataError(message, path=path, hint=_HINT) from error


def _mark(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """A line of the file, held to what a mark is."""
    try:
        mark = decode(line)
    except (NotJsonError, UnicodeDecodeError) as error:
        message = f"is no mark: {error}"
        raise DataError(message, path=path, line=number, hint=_HINT) from error
    is_one = isinstance(mark, dict) and isinstance(mark.get("id"), str)
    if not (is_one and isinstance(mark.get("note", ""), str)):
        message = "is no mark: it needs an id, and its note must be text"
        raise DataError(message, path=path, line=number, hint=_HINT)
    return dict(mark)

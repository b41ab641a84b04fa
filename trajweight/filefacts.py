"""What was seen while one file was read, told in a few notes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_NOTES_OF_A_KIND: Final = 5


@dataclass(slots=True)
class FileFacts:
    """What was seen in one file; grows while the file is read.

    Attributes:
        n_lines: Lines that are not blank.
        n_rejected: Those of them that could not be used.
        formats: Rows kept, by the format's title.
        origins: Rows kept, by what said their origin; empty where nothing did.
        used: Rows kept, by what was looked for and the field that said it.
        remarks: Line numbers with what was odd there, the first few of each kind.
        remark_kinds: How often each kind of remark came up.
    """

    n_lines: int = 0
    n_rejected: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    used: Counter[tuple[str, str]] = field(default_factory=Counter)
    remarks: list[tuple[int, str]] = field(default_factory=list)
    remark_kinds: Counter[str] = field(default_factory=Counter)

    def kept(self, title: str, used: tuple[tuple[str, str], ...], origin_said_by: str) -> None:
        """Count a row that is kept: its format, the fields that spoke, what said its origin."""
        self.formats[title] += 1
        self.used.update(used)
        self.origins[origin_said_by] += 1

    def remark(self, line: int, text: str) -> None:
        """Note something on a line; of one kind only the first few are told in full."""
        kind = re.sub(r"[0-9]+", "N", text.partition(" is ")[0])
        self.remark_kinds[kind] += 1
        if self.remark_kinds[kind] <= _NOTES_OF_A_KIND:
            self.remarks.append((line, text))

    def notes(self, path: Path) -> list[str]:
        """The notes: what was detected, what was assumed, what was odd."""
        if not self.n_lines:
            return [f"{path}: the file is empty"]
        notes = [f"{path}: {self._detected()}"] if self.formats else []
        if self.n_rejected:
            notes.append(f"{path}: {self.n_rejected} of {self.n_lines} rows rejected")
        if self.origins[""]:
            notes.append(
                f"{path}: {self.origins['']} rows do not say their origin; read as synthetic"
            )
        notes += [f"{path}:{line}: {text}" for line, text in self.remarks]
        notes += [
            f"{path}: {count - _NOTES_OF_A_KIND} more such notes on {kind}"
            for kind, count in self.remark_kinds.items()
            if count > _NOTES_OF_A_KIND
        ]
        return notes

    def _detected(self) -> str:
        parts = [f"{title}, {n} rows" for title, n in self.formats.items()]
        parts += [f"{what} from field {name}" for what, name in self.used]
        parts += [f"origin from {said}" for said in self.origins if said]
        return f"detected: {', '.join(parts)}"

"""What was seen while one file was read, told in a few notes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from trajweight.problems import CODES, MEANINGS, Code

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T = TypeVar("T")

#: What the scalars of a row are called where a user reads of them.
USES: Final = ("id", "source", "task", "group", "reward", "success")
_NOTES_OF_A_KIND: Final = 5
_PROBLEMS_OF_A_KIND: Final = 2
#: A kind may hold a user's keys, so a file could have as many kinds as rows.
_KINDS_OF_NOTES: Final = 100


#: Title of the format, the field that said each of ``USES`` or nothing, and what said the origin.
Kind = tuple[str, tuple[str, ...], str]


@dataclass(slots=True)
class FileFacts:
    """What was seen in one file; grows while the file is read, but not with the file.

    Attributes:
        n_lines: Lines that are not blank.
        n_rejected: Those of them that could not be used.
        kinds: Rows kept, by what was seen in them; most files have one kind of row or two.
        remarks: Line numbers with what was odd there, the first few of each kind.
        remark_kinds: How often each kind of remark came up; beyond some kinds under one name.
        problems: Rows kept that have a problem, by its code; see `problems`.
        problem_places: Of the first few of them the line number, and where in the row.
        repaired: Rows that were mended, by the code of what was wrong.
    """

    n_lines: int = 0
    n_rejected: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    remarks: list[tuple[int, str]] = field(default_factory=list)
    remark_kinds: Counter[str] = field(default_factory=Counter)
    problems: Counter[Code] = field(default_factory=Counter)
    problem_places: dict[Code, list[tuple[int, str]]] = field(default_factory=dict)
    repaired: Counter[str] = field(default_factory=Counter)

    @property
    def formats(self) -> Counter[str]:
        """Rows kept, by the format's title."""
        return _counted((title, n) for (title, _, _), n in self.kinds.items())

    @property
    def origins(self) -> Counter[str]:
        """Rows kept, by what said their origin; empty where nothing did."""
        return _counted((said_by, n) for (_, _, said_by), n in self.kinds.items())

    @property
    def used(self) -> Counter[tuple[str, str]]:
        """Rows kept, by what was looked for and the field that said it."""
        return _counted(
            ((what, said_by), n)
            for (_, used, _), n in self.kinds.items()
            for what, said_by in zip(USES, used, strict=True)
            if said_by
        )

    def kept(self, title: str, used: tuple[str, ...], origin_said_by: str) -> None:
        """Count a row that is kept: its format, the fields that spoke, what said its origin."""
        self.kinds[title, used, origin_said_by] += 1

    def remark(self, line: int, text: str) -> None:
        """Note something on a line; of one kind only the first few are told in full."""
        kind = re.sub(r"[0-9]+", "N", text.partition(" is ")[0])
        if len(self.remark_kinds) >= _KINDS_OF_NOTES and kind not in self.remark_kinds:
            kind = "other things"
        self.remark_kinds[kind] += 1
        if self.remark_kinds[kind] <= _NOTES_OF_A_KIND:
            self.remarks.append((line, text))

    def problem(self, line: int, code: Code, detail: str) -> None:
        """Count a row that has a problem; of each kind the first few are told in full."""
        self.problems[code] += 1
        if self.problems[code] <= _PROBLEMS_OF_A_KIND:
            self.problem_places.setdefault(code, []).append((line, detail))

    def told_problems(self) -> list[tuple[Code, int, list[tuple[int, str]]]]:
        """Each code with how many rows have it, and the first few places."""
        return [
            (code, self.problems[code], self.problem_places[code])
            for code in CODES
            if code in self.problems
        ]

    def notes(self, path: Path) -> list[str]:
        """The notes: what was detected, what was assumed, what was odd."""
        if not self.n_lines:
            return [f"{path}: the file is empty"]
        notes = [f"{path}: detected: {self.detected()}"] if self.formats else []
        if self.n_rejected:
            notes.append(f"{path}: {self.n_rejected} of {self.n_lines} rows rejected")
        if self.origins[""]:
            notes.append(
                f"{path}: {self.origins['']} rows do not say their origin; read as synthetic"
            )
        notes += self.told_remarks(path)
        for code, n, places in self.told_problems():
            rows = "1 row" if n == 1 else f"{n} rows"
            notes.append(f"{path}: {code} ({MEANINGS[code]}): {rows}")
            notes += [f"{path}:{line}: {code}: {detail}" for line, detail in places]
        if self.repaired:
            mended = ", ".join(f"{code} {n}" for code, n in self.repaired.items())
            notes.append(f"{path}: rows repaired, by what was wrong: {mended}")
        return notes

    def detected(self) -> str:
        """The formats of the rows, and the fields that spoke."""
        parts = [f"{title}, {n} rows" for title, n in self.formats.items()]
        parts += [f"{what} from field {name}" for what, name in self.used]
        parts += [f"origin from {said}" for said in self.origins if said]
        return ", ".join(parts)

    def told_remarks(self, path: Path) -> list[str]:
        """What was odd on single lines, and how much more of each kind there was."""
        notes = [f"{path}:{line}: {text}" for line, text in self.remarks]
        notes += [
            f"{path}: {count - _NOTES_OF_A_KIND} more such notes on {kind}"
            for kind, count in self.remark_kinds.items()
            if count > _NOTES_OF_A_KIND
        ]
        return notes


def _counted(pairs: Iterable[tuple[T, int]]) -> Counter[T]:
    """The sum of the numbers of each thing, in the order the things were first seen."""
    counts: Counter[T] = Counter()
    for thing, n in pairs:
        counts[thing] += n
    return counts

"""What is in a file before anything is done with it: told from its first rows, or from all.

Nothing is written and nothing learned, and no table is made, so the answer comes at once.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

from trajweight.containers import sources_of
from trajweight.errors import DataError
from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, decode, encode
from trajweight.rows import RowMaker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trajweight.containers import Source
    from trajweight.filefacts import FileFacts
    from trajweight.formats import Format, Row
    from trajweight.rows import Layout

#: Rows of a file that are looked at, where nobody asks for all.
FIRST_ROWS: Final = 1000
#: A token is about so many characters of English text.
CHARACTERS_A_TOKEN: Final = 4
_SAMPLES: Final = 5
#: Characters of a sample's opening and of its reply.
_SHOWN: Final = 400
_REASONS: Final = 5
_NAMES: Final = 50


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in one file, or why it cannot be told.

    Attributes:
        path: The file.
        facts: See ``survey``; empty where there are none.
        error: Why the file cannot be understood; None when it can.
    """

    path: Path
    facts: dict[str, Any]
    error: DataError | None = None


def survey(path: Path, *, layout: Layout, rows: int | None = FIRST_ROWS) -> list[Survey]:
    """Look at a file, or at every file of a folder or pattern.

    The facts of a file are: ``container``, ``format`` (name, title and why), ``rows`` (seen,
    whether these are all, usable, rejected and the first reasons), ``sources`` and ``tools`` (name
    and number of rows or calls, the most frequent first), ``origins`` (and how many rows do not say
    theirs), ``rewards`` and ``success`` (the share of rows that say it, and what they say),
    ``turns`` and ``characters`` of a row, ``tokens`` (an estimate), ``problems`` (rows by code,
    with the first place), ``copies`` (rows that say word for word what another of them says),
    ``samples``, ``detected`` (the fields that spoke) and ``notes`` (what else is odd).

    Args:
        path: What the user named.
        layout: What they said of formats and fields.
        rows: Rows of each file to look at; None for all.

    Raises:
        DataError: If there is nothing of that name.
    """
    surveys = []
    for source in sources_of(path).sources:
        try:
            surveys.append(Survey(source.path, _facts(source, layout, rows)))
        except DataError as error:
            surveys.append(Survey(source.path, {}, error))
    return surveys


def _facts(source: Source, layout: Layout, rows: int | None) -> dict[str, Any]:
    maker = RowMaker(layout=layout)
    items = maker.opened(source)
    seen = _Seen()
    for item in islice(items, rows):
        maker.file.facts.n_lines += 1
        try:
            row = maker.made(item)
        except (UnusableError, NotJsonError) as error:
            maker.file.facts.n_rejected += 1
            seen.reject(item.number, str(error))
        else:
            seen.take(item.number, row)
    is_all = rows is None or next(items, None) is None
    file = maker.file
    if not file.facts.n_lines:
        message = "nothing to read: no line that is not blank"
        raise DataError(message, path=source.path, hint="Each line should hold one JSON object.")
    return {
        "container": source.container,
        "format": _format(file.form, layout),
        **seen.facts(file.facts, is_all=is_all),
        "detected": file.facts.detected(),
        "notes": file.facts.told_remarks(source.path),
    }


def _format(form: Format | None, layout: Layout) -> dict[str, Any]:
    """The format of a file, and why it is held to be that."""
    if form is None:
        return {"name": None, "title": "no known format", "why": "no record can be read"}
    asked = " and ".join(form.lacks({}))
    why = "as --format says" if layout.form is not None else f"records have {asked}"
    return {"name": form.name, "title": form.title, "why": why}


@dataclass(slots=True)
class _Seen:
    """What was seen of a file's rows; of a row it keeps a few numbers."""

    rejected: list[tuple[int, str]] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    rewards: array[float] = field(default_factory=lambda: array("d"))
    successes: Counter[bool] = field(default_factory=Counter)
    turns: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    contents: set[int] = field(default_factory=set)
    samples: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def reject(self, line: int, reason: str) -> None:
        """Note a row that cannot be used."""
        if len(self.rejected) < _REASONS:
            self.rejected.append((line, reason))

    def take(self, line: int, row: dict[str, Any]) -> None:
        """Note a row that can be used."""
        self.sources[row["source"]] += 1
        self.origins[row["origin"]] += 1
        if row["reward"] is not None:
            self.rewards.append(row["reward"])
        if row["success"] is not None:
            self.successes[row["success"]] += 1
        self.turns.append(row["n_turns"])
        self.characters.append(sum(map(self._characters_of, decode(row["messages_json"]))))
        self.contents.add(int(row["content_sha256"][:16], base=16))
        self._maybe_sample(line, row)

    def facts(self, file: FileFacts, *, is_all: bool) -> dict[str, Any]:
        """All of it, see ``survey``."""
        n_usable, total = len(self.turns), sum(self.characters)
        return {
            "rows": {
                "seen": file.n_lines,
                "are_all": is_all,
                "usable": n_usable,
                "rejected": file.n_lines - n_usable,
                "because": [{"line": line, "reason": text} for line, text in self.rejected],
            },
            "sources": _ranked(self.sources),
            "origins": {**self.origins, "not_said": file.origins[""]},
            "rewards": _numbers(self.rewards, n_usable),
            "success": {
                "known": _share(self.successes.total(), n_usable),
                "share": _share(self.successes[True], self.successes.total()),
            },
            "turns": _numbers(self.turns, n_usable),
            "characters": {**_numbers(self.characters, n_usable), "total": total},
            "tokens": {
                "estimate": round(total / CHARACTERS_A_TOKEN),
                "how": f"characters / {CHARACTERS_A_TOKEN}",
            },
            "tools": _ranked(self.tools),
            "problems": [
                {"code": code, "rows": n, "line": places[0][0], "detail": places[0][1]}
                for code, n, places in file.told_problems()
            ],
            "copies": n_usable - len(self.contents),
            "samples": [_sample(*one) for one in sorted(self.samples, key=lambda one: one[0])],
        }

    def _characters_of(self, message: Row) -> int:
        """Of a turn's text, reasoning and calls, whose names are counted on the way."""
        n = len(message["content"]) + len(message.get("reasoning", ""))
        for call in message.get("tool_calls", ()):
            n += len(call["name"]) + len(encode(call["arguments"]))
            self.tools[call["name"]] += 1
        return n

    def _maybe_sample(self, line: int, row: dict[str, Any]) -> None:
        """Keep the row with the same chance as every other."""
        place = len(self.turns) - 1
        if place >= _SAMPLES:
            place = self.chance.randrange(len(self.turns))
        if place < _SAMPLES:
            self.samples[place : place + 1] = [(line, row)]


def _sample(line: int, row: dict[str, Any]) -> dict[str, Any]:
    """A row in short: what it says of itself, how it opens and what is answered."""
    messages = decode(row["messages_json"])
    asked = next((m for m in messages if m["role"] == "user"), messages[0])
    answered = next(
        (m for m in messages if m["role"] == "assistant" and (m["content"] or "tool_calls" in m)),
        None,
    )
    return {
        "line": line,
        **{name: row[name] for name in ("traj_id", "source", "origin", "reward", "n_turns")},
        "roles": [message["role"] for message in messages[:_NAMES]],
        "opens": _said(asked),
        "answers": "" if answered is None else _said(answered),
    }


def _said(message: Row) -> str:
    if message["content"] or "tool_calls" not in message:
        return str(message["content"])[:_SHOWN]
    call = message["tool_calls"][0]
    return f"{call['name']}({encode(call['arguments'])})"[:_SHOWN]


def _ranked(counts: Counter[str]) -> list[dict[str, Any]]:
    """Names and numbers, the most frequent first, and at last how much the others make."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    table: list[dict[str, Any]] = [{"name": name, "n": n} for name, n in ranked[:_NAMES]]
    if rest := ranked[_NAMES:]:
        table.append({"name": None, "others": len(rest), "n": sum(n for _, n in rest)})
    return table


def _numbers(values: Sequence[float], n: int) -> dict[str, Any]:
    """The share of rows that have one, and how they are spread."""
    known = {"known": _share(len(values), n)}
    if not values:
        return {**known, "least": None, "median": None, "mean": None, "most": None}
    return {
        **known,
        "least": min(values),
        "median": median(values),
        "mean": fmean(values),
        "most": max(values),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def failed(surveys: Iterable[Survey]) -> list[DataError]:
    """Why files could not be understood."""
    return [each.error for each in surveys if each.error is not None]

"""The conversations of one trace: calls that go on from one another are one, others are branches.

Each call of a model repeats all that was said before, so of a conversation of n calls the last one
holds everything. A call whose turns are the beginning of a longer one's belongs to that; what is
left are branches: retries, sub-agents, a compacted context. A turn that several branches share is
trained on in the first of them only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.jsontext import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.formats.protocol import Row


@dataclass(frozen=True, slots=True)
class Branch:
    """One conversation of a trace.

    Attributes:
        main: The position of the call that holds all of it.
        calls: The positions of all its calls, in order.
        shared: Its assistant turns, from 0, that an earlier branch has as well.
    """

    main: int
    calls: tuple[int, ...]
    shared: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Marked:
    """The turns of one call of a model, in canonical form.

    Attributes:
        turns: What the call was given, then what it gave back.
        marks: For each turn a hash of all turns up to it.
    """

    turns: Sequence[Row]
    marks: tuple[bytes, ...]

    @classmethod
    def of(cls, turns: Sequence[Row]) -> Marked:
        """Mark turns by what is said and called; ids and reasoning change from call to call.

        Raises:
            NotJsonError: If the arguments of a call are nested too deeply to be compared.
        """
        digest = hashlib.sha256()
        marks = []
        for turn in turns:
            said = turn["content"].strip().encode(errors="surrogatepass")
            digest.update(b"%s %d " % (turn["role"].encode(), len(said)))
            digest.update(said)
            for call in turn.get("tool_calls", ()):
                made = [call["name"], call["arguments"]]
                digest.update(encode(made, sort_keys=True).encode(errors="surrogatepass"))
            marks.append(digest.digest())
        return cls(turns, tuple(marks))


def branches_of(talks: Sequence[Marked]) -> list[Branch]:
    """The conversations that calls make, given in the order of time."""
    owner: dict[bytes, int] = {}
    calls: dict[int, list[int]] = {}
    for call in sorted(range(len(talks)), key=lambda call: -len(talks[call].turns)):
        marks = talks[call].marks
        main = owner.setdefault(marks[-1] if marks else b"", call)
        calls.setdefault(main, []).append(call)
        for mark in marks:
            owner.setdefault(mark, call)
    trained: set[bytes] = set()
    found = []
    for main in sorted(calls, key=lambda main: min(calls[main])):
        talk = talks[main]
        spoken = [n for n, turn in enumerate(talk.turns) if turn["role"] == "assistant"]
        shared = tuple(n for n in spoken if talk.marks[n] in trained)
        trained.update(talk.marks[n] for n in spoken)
        found.append(Branch(main, tuple(sorted(calls[main])), shared))
    return found


def with_reasoning(talk: Marked, others: Sequence[Marked]) -> list[Row]:
    """The turns of a branch, each with the reasoning that one of its calls has for it.

    What a model thought is in the call that it answered, and mostly not in the later ones.
    """
    thoughts: dict[bytes, str] = {}
    for other in others:
        for turn, mark in zip(other.turns, other.marks, strict=True):
            if turn.get("reasoning"):
                thoughts.setdefault(mark, turn["reasoning"])
    return [
        {**turn, "reasoning": thoughts[mark]} if mark in thoughts else turn
        for turn, mark in zip(talk.turns, talk.marks, strict=True)
    ]

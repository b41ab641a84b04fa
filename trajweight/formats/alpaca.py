"""Alpaca rows: ``instruction``, ``input`` and ``output``, one question and its answer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from trajweight.formats.exchanges import asked_and_answered, earlier
from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item
from trajweight.formats.turns import canonical_conversation

_ANSWERS: Final = ("output", "response")
_INPUTS: Final = ("input", "context")
_OBSERVED: Final = re.compile(r"^Observation\b", re.MULTILINE)


class Alpaca(Format):
    """Rows with an instruction and the output that follows it; earlier turns stand in history."""

    name = "alpaca"
    title = "Alpaca instructions"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has an instruction and an output."""
        row = value if isinstance(value, dict) else {}
        lacks = [] if row.get("instruction") is not None else ["a key instruction"]
        if not any(row.get(name) is not None for name in _ANSWERS):
            lacks.append("a key output")
        return tuple(lacks)

    def canonical(self, item: Item) -> Canonical:
        """The history, then the instruction with its input, then the output."""
        row = item.value
        questions = {name: row.get(name) for name in ("instruction", *_INPUTS)}
        answer = next(name for name in _ANSWERS if row.get(name) is not None)
        turns = [
            *earlier(row.get("history")),
            *asked_and_answered(questions, {answer: row[answer]}),
        ]
        return observing(labelled(row, canonical_conversation(row, turns)))


def observing(canonical: Canonical) -> Canonical:
    """The conversation, with a remark where its last answer holds what only a tool could say."""
    n_observed = len(_OBSERVED.findall(canonical.messages[-1]["content"]))
    if not n_observed:
        return canonical
    told = (
        f"the output holds {n_observed} lines that begin with Observation; whoever trains on it "
        "trains on the words of the environment too"
    )
    return replace(canonical, remarks=(*canonical.remarks, told))

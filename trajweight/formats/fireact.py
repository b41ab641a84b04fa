"""Results of FireAct: one object, by question, of what each run said, its reward and its text.

The runs of a chat model hold messages; those of a base model hold the text of an Alpaca prompt,
whose Observation lines are what the search tool said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

_INSTRUCTION: Final = "### Instruction:\n"
_RESPONSE: Final = "\n\n### Response:\n"
#: An observation begins its line and lasts until the model thinks or acts again.
_OBSERVATION: Final = re.compile(r"^Observation:", re.MULTILINE)
_STEP: Final = re.compile(r"^(?:Thought|Action):", re.MULTILINE)


class FireAct(Format):
    """An object whose values are runs with a trajectory and its reward."""

    name = "fireact"
    title = "FireAct results by question"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"success": ("em",)}

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A record holds runs by question, each with traj and reward."""
        runs = list(value.values()) if isinstance(value, dict) else []
        is_fireact = bool(runs) and all(
            isinstance(run, dict) and "traj" in run and "reward" in run for run in runs
        )
        return () if is_fireact else ("keys that name questions", "traj and reward under each")

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """One row for each run; its envelope keeps the question that named it."""
        for record in records:
            if record.fault or self.lacks(record.value):
                yield Item(record.value, record.number, record, hints=hints)
                continue
            for number, (question, run) in enumerate(record.value.items(), start=1):
                yield Item(run, number, record, envelope={question: None}, hints=hints)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of one run."""
        row = item.value
        if item.envelope is None:
            reason = "a run of FireAct stands under its question"
            raise UnusableError(reason)
        shown = row.get("prompt") if isinstance(row.get("prompt"), list) else []
        turns = row["traj"]
        if isinstance(turns, str):
            turns = _turns(turns)
        if not isinstance(turns, list):
            reason = f"traj is {kind_of(turns)}, not messages or text"
            raise UnusableError(reason)
        canonical = canonical_conversation(row, [*shown, *turns], n_shown=len(shown))
        question = next(iter(item.envelope))
        said = {"task": (question, "the key of the run")}
        return Canonical(canonical.messages, canonical.tools, canonical.remarks, said)


def _turns(text: str) -> list[Row]:
    """The turns of a text in the Alpaca prompt.

    Raises:
        UnusableError: If the prompt is another.
    """
    head, has_instruction, rest = text.partition(_INSTRUCTION)
    question, has_response, run = rest.partition(_RESPONSE)
    if not has_instruction or not has_response:
        reason = "traj is text in another prompt than Alpaca's instruction and response"
        raise UnusableError(reason)
    turns: list[Row] = [{"role": "system", "content": head.strip()}] if head.strip() else []
    turns.append({"role": "user", "content": question})
    at = 0
    while at < len(run):
        seen = _OBSERVATION.search(run, at)
        end = seen.start() if seen else len(run)
        if said := run[at:end].strip("\n"):
            turns.append({"role": "assistant", "content": said})
        if seen is None:
            break
        step = _STEP.search(run, seen.end())
        at = step.start() if step else len(run)
        turns.append({"role": "user", "content": run[end:at].strip("\n")})
    return turns

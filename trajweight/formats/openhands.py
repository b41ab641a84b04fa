"""OpenHands: rows of an evaluation with their history, or a file that is one list of events.

An event is of the older kind, with an action or an observation, or of the SDK, with a kind; what
events tell stands in `openhands_actions` and `openhands_kinds`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats import openhands_actions, openhands_kinds
from trajweight.formats.pieces import assembled, listing, shown
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import listed
from trajweight.jsontext import kind_of
from trajweight.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Where a row may have its events.
_EVENT_KEYS: Final = ("history", "events", "trajectory", "items")
_SOURCES: Final = frozenset({"agent", "user", "environment"})
#: How many of the first events tell what a list is of.
_LOOKED_AT: Final = 5
#: What the item of a whole file is told: which of its records could not be read.
_UNREAD: Final = "openhands_unread"
_ALONE: Final = (
    "one event is no run: the events of a run stand in several files; "
    "write them into one list, such as jq -s . events/*.json > run.json"
)


class OpenHands(Format):
    """Rows with a history of events, lists of events, and files of events."""

    name = "openhands"
    title = "OpenHands events"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "source": ("metadata.llm_config.model", "metadata.llm.model"),
        "reward": ("test_result.reward", "test_result.score"),
        "success": ("test_result.resolved", "test_result.report.resolved", "report.resolved"),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A record is an event, or holds a list of them, or is a row of an evaluation."""
        if _is_event(value) or _is_list_of_events(value) or _is_of_evaluation(value):
            return ()
        if isinstance(value, dict) and any(_is_list_of_events(value.get(k)) for k in _EVENT_KEYS):
            return ()
        if isinstance(value, dict) and "instance_id" in value:
            return ("a list history of events",)
        return ("a source", "an action with args, an observation or a kind of event")

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """A row a record; records that are events are one row together, the last of the file."""
        parts: list[Record] = []
        unread: list[int] = []
        for record in records:
            value = record.value
            is_part = _is_event(value) or _is_pair(value) or (bool(parts) and _is_trace(value))
            if is_part and not record.fault:
                parts.append(record)
                continue
            unread += [record.number] if record.fault else []
            yield Item(value, record.number, record, hints=hints)
        if parts:
            whole = _joined(parts)
            numbers = tuple(part.number for part in parts)
            told = {**hints, _UNREAD: tuple(unread)}
            yield Item(whole.value, whole.number, whole, numbers=numbers, hints=told)

    def canonical(self, item: Item) -> Canonical:
        """The conversation that the events tell."""
        row = item.value if isinstance(item.value, dict) and not _is_event(item.value) else {}
        events = [event for each in _events(item.value) for event in _of_pair(each)]
        if len(events) == 1 and not row:
            raise UnusableError(_ALONE)
        is_sdk = any(_has_kind(event) for event in events)
        told = openhands_kinds.told(events) if is_sdk else openhands_actions.told(events)
        messages, remarks = told.messages, [*told.remarks]
        if not any(turn["role"] == "user" for turn in messages):
            remarks += _add_instruction(messages, row.get("instruction"))
        if unread := item.hints.get(_UNREAD):
            remarks.append(f"events that cannot be read are left out: records {listing(unread)}")
        if isinstance(row.get("error"), str) and row["error"]:
            remarks.append(f"error is {shown(row['error'])}")
        said: dict[str, tuple[Any, str]] = {}
        if isinstance(row.get("test_result"), bool):
            said["success"] = (row["test_result"], "test_result")
        if told.model and not row.get("metadata"):
            said["source"] = (told.model, "the events")
        return assembled(messages, tools=told.tools, remarks=remarks, said=said)


def _joined(parts: list[Record]) -> Record:
    """One record of many: the list of their values, as the text of a list where they have text."""
    texts = [part.raw for part in parts if part.raw is not None]
    data = [text.encode() if isinstance(text, str) else text for text in texts]
    return Record(
        parts[0].number,
        [part.value for part in parts],
        raw=b"[" + b",".join(data) + b"]" if len(data) == len(parts) else None,
        non_finite=tuple(
            replace(lost, path=(n, *lost.path))
            for n, part in enumerate(parts)
            for lost in part.non_finite
        ),
        remarks=tuple(remark for part in parts for remark in part.remarks),
    )


def _is_event(value: Any) -> bool:
    return isinstance(value, dict) and (_has_kind(value) or _is_action(value) or _is_result(value))


def _has_kind(value: Row) -> bool:
    kind = value.get("kind")
    if not isinstance(kind, str):
        return False
    is_said = openhands_kinds.may_be_kind(kind) and isinstance(value.get("source"), str)
    return is_said or kind in openhands_kinds.KINDS


def _is_action(value: Row) -> bool:
    is_said = isinstance(value.get("args"), dict) or _has_source(value)
    return isinstance(value.get("action"), str) and is_said


def _is_result(value: Row) -> bool:
    is_said = isinstance(value.get("extras"), dict) or _has_source(value)
    return isinstance(value.get("observation"), str) and is_said


def _has_source(value: Row) -> bool:
    source = value.get("source")
    return isinstance(source, str) and source in _SOURCES


def _is_pair(value: Any) -> bool:
    """Whether it is an action with its observation, as older evaluations write histories."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    first, second = value
    if not isinstance(first, dict) or not isinstance(second, dict):
        return False
    return _is_action(first) and _is_result(second)


def _is_list_of_events(value: Any) -> bool:
    first = value[:_LOOKED_AT] if isinstance(value, list) else []
    return any(_is_event(each) or _is_pair(each) for each in first)


def _is_of_evaluation(value: Any) -> bool:
    """Whether it is a row of ``output.jsonl`` whose history is null, empty, or text."""
    if not isinstance(value, dict) or not {"instance_id", "history"} <= value.keys():
        return False
    has_more = "test_result" in value or "instruction" in value
    return has_more and (not value["history"] or isinstance(value["history"], str))


def _is_trace(value: Any) -> bool:
    """Whether a record among events is one that tells no turn, such as a status."""
    return isinstance(value, dict) and ("source" in value or "status_update" in value)


def _events(value: Any) -> list[Any]:
    """The events of a row.

    Raises:
        UnusableError: If it has none.
    """
    if isinstance(value, list):
        return value
    if _is_event(value):
        return [value]
    key = next((key for key in _EVENT_KEYS if _is_list_of_events(value.get(key))), _EVENT_KEYS[0])
    if not value.get(key) and isinstance(value.get("error"), str) and value["error"]:
        reason = f"{key} is empty: the run ended in an error: {shown(value['error'])}"
        raise UnusableError(reason)
    return listed(value.get(key), key)


def _of_pair(value: Any) -> Iterator[Row]:
    """The events of a pair, or the event that is no pair.

    Raises:
        UnusableError: If it is neither.
    """
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        reason = f"among the events is {kind_of(value)}, not an object"
        raise UnusableError(reason)
    yield from parts


def _add_instruction(messages: list[Row], instruction: Any) -> list[str]:
    """Let the task stand before the first answer, where the events do not tell it."""
    if not isinstance(instruction, str) or not instruction:
        return []
    place = next((n for n, turn in enumerate(messages) if turn["role"] != "system"), len(messages))
    messages.insert(place, {"role": "user", "content": instruction})
    return ["the first user turn is the field instruction, since no event is one"]

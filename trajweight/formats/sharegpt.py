"""ShareGPT rows: ``conversations``, a list of objects with from and value."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation, listed
from trajweight.jsontext import NotJsonError, decode

_SPEAKERS: Final[dict[str, str]] = {
    "system": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}


class ShareGpt(Format):
    """Rows with a list of conversations."""

    name = "sharegpt"
    title = "ShareGPT conversations"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has conversations."""
        has = isinstance(value, dict) and value.get("conversations") is not None
        return () if has else ("a key conversations",)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row; its turns may also be spelt with role and content."""
        row = item.value
        turns = listed(row["conversations"], "conversations")
        return canonical_conversation(row, [_spoken(turn, n) for n, turn in enumerate(turns, 1)])

    def restored(self, canonical: Canonical) -> Row:
        """Conversations in human and gpt turns; none where a turn holds more than its text."""
        values: Row = {}
        if all(message.keys() == {"role", "content"} for message in canonical.messages):
            values["conversations"] = [
                {"from": _SPEAKERS[message["role"]], "value": message["content"]}
                for message in canonical.messages
            ]
        if canonical.tools:
            values["tools"] = canonical.tools
        return values


def _spoken(item: Any, number: int) -> Any:
    """The item as it is, unless it is a call: then an assistant message that makes it."""
    if not isinstance(item, dict) or "function_call" not in (item.get("from"), item.get("role")):
        return item
    value = item["value"] if "value" in item else item.get("content")
    try:
        calls = decode(value) if isinstance(value, str) else value
    except NotJsonError as error:
        reason = f"turn {number} is a function_call, but its value is {error}"
        raise UnusableError(reason) from error
    return {"role": "assistant", "content": None, "tool_calls": _list_of(calls, number)}


def _list_of(calls: Any, number: int) -> list[Any]:
    as_list: list[Any] = calls if isinstance(calls, list) else [calls]
    if not as_list or not all(isinstance(call, dict) for call in as_list):
        reason = f"turn {number} is a function_call without name and arguments"
        raise UnusableError(reason)
    return as_list

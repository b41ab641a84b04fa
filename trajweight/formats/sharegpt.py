"""ShareGPT rows: ``conversations``, a list of objects with from and value."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.formats.turns import canonical_conversation, listed
from trajweight.jsontext import NotJsonError, decode

NAME: Final = "sharegpt"
TITLE: Final = "ShareGPT conversations"

_SPEAKERS: Final[dict[str, str]] = {
    "system": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}


def matches(row: Row) -> bool:
    """Whether the row has conversations."""
    return row.get("conversations") is not None


def canonical(row: Row) -> Canonical:
    """The conversation of a row; items may also be spelt with role and content.

    Raises:
        UnusableError: If a turn cannot be understood, or there is nothing to train on.
    """
    items = listed(row["conversations"], "conversations")
    return canonical_conversation(row, [_spoken(item, n) for n, item in enumerate(items, 1)])


def restored(canonical: Canonical) -> Row:
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

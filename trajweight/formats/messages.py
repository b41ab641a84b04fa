"""OpenAI-style rows: ``messages``, a list of objects with role and content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from trajweight.formats.protocol import Canonical, Row

NAME: Final = "messages"
TITLE: Final = "OpenAI messages"


def matches(row: Row) -> bool:
    """Whether the row has messages."""
    return row.get("messages") is not None


def canonical(row: Row) -> Canonical:
    """The conversation of a row.

    Raises:
        UnusableError: If a turn cannot be understood, or there is nothing to train on.
    """
    return canonical_conversation(row, listed(row["messages"], "messages"))


def restored(canonical: Canonical) -> Row:
    """Messages and tools as the API writes them, arguments as JSON text."""
    values: Row = {"messages": [_message(message) for message in canonical.messages]}
    if canonical.tools:
        values["tools"] = canonical.tools
    return values


def _message(message: Row) -> Row:
    calls = message.get("tool_calls")
    plain: Row = {"role": message["role"], "content": message["content"]}
    if calls:
        plain["content"] = message["content"] or None
        plain["tool_calls"] = [_call(call) for call in calls]
    if "tool_call_id" in message:
        plain["tool_call_id"] = message["tool_call_id"]
    if "reasoning" in message:
        plain["reasoning_content"] = message["reasoning"]
    return plain


def _call(call: Row) -> Row:
    arguments = call["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": text},
    }

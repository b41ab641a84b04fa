"""OpenAI-style rows: ``messages``, a list of objects with role and content."""

from __future__ import annotations

import json
from typing import Any

from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item, Row
from trajweight.formats.turns import canonical_conversation, listed


class Messages(Format):
    """Rows with a list of messages."""

    name = "messages"
    title = "OpenAI messages"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has messages."""
        has = isinstance(value, dict) and value.get("messages") is not None
        return () if has else ("a key messages",)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row."""
        row = item.value
        return labelled(row, canonical_conversation(row, listed(row["messages"], "messages")))

    def restored(self, canonical: Canonical) -> Row:
        """Messages and tools as the API writes them, arguments as JSON text."""
        messages = canonical.messages
        values: Row = {"messages": [m if len(m) == 2 else _message(m) for m in messages]}
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

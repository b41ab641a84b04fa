"""Conversations as readers built on chat templates want them, which several trainers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from trajweight.formats import UnusableError
from trajweight.jsontext import encode

if TYPE_CHECKING:
    from trajweight.trainers.protocol import Example, Row

_CALL: Final = pa.struct(
    {
        "id": pa.string(),
        "type": pa.string(),
        "function": pa.struct({"name": pa.string(), "arguments": pa.string()}),
    }
)
_MESSAGE: Final = pa.struct(
    {
        "role": pa.string(),
        "content": pa.string(),
        "reasoning_content": pa.string(),
        "tool_calls": pa.list_(_CALL),
        "tool_call_id": pa.string(),
        "train": pa.bool_(),
    }
)
#: Of a Parquet file of such rows. Readers of JSON lines guess their columns from what comes first
#: and fail, or fill in nulls, where a later row has a tool call of another shape.
CHAT_SCHEMA: Final = pa.schema(
    {"messages": pa.list_(_MESSAGE), "tools": pa.string(), "weight": pa.float64()}
)


def messages_of(example: Example, *, flags: bool) -> list[Row]:
    """Messages whose content is always text.

    A reply of tool calls alone has the content null in the OpenAI API. Templates that print the
    content without asking would print ``None``, so it is the empty text here.

    Args:
        example: The trajectory.
        flags: Whether to put ``"train": false`` on replies that may not be trained on.
    """
    found = []
    for message, trained in zip(example.messages, example.trained, strict=True):
        made = {**message, "content": message["content"] or ""}
        if flags and message["role"] == "assistant" and not trained:
            made["train"] = False
        found.append(made)
    return found


def ending_in_reply(messages: list[Row]) -> list[Row]:
    """The messages up to the last reply; what follows it is never trained on.

    Raises:
        UnusableError: If there is no reply.
    """
    for end in range(len(messages), 0, -1):
        if messages[end - 1]["role"] == "assistant":
            return messages[:end]
    message = "no reply to train on"
    raise UnusableError(message)


def tools_text(example: Example) -> str | None:
    """Tool definitions as JSON text, since tools of different shapes share no column type."""
    return None if example.tools is None else encode(example.tools)


def chat_row(example: Example, *, weight: float | None, flags: bool = True) -> Row:
    """A row of `CHAT_SCHEMA`."""
    return {
        "messages": messages_of(example, flags=flags),
        "tools": tools_text(example),
        "weight": weight,
    }

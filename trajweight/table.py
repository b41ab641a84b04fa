"""One row of the trajectory table: made from a conversation, read back, undone.

The canonical columns and ``extra_json`` together hold all of a row: ``original_row`` gives
back what stood in the file.
"""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING, Any

from trajweight.formats import Canonical, Format, Row, format_named
from trajweight.jsontext import decode, encode, encode_utf8
from trajweight.trajectory import TRAJECTORY_COLUMNS, ToolCall, Trajectory, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl


def table_schema() -> pl.Schema:
    """The polars schema of the trajectory table, in column order."""
    import polars as pl  # rows are made, and looked at, without it

    return pl.Schema({name: getattr(pl, kind)() for name, kind in TRAJECTORY_COLUMNS.items()})


def trajectory_of(row: Mapping[str, Any]) -> Trajectory:
    """The trajectory that a table row holds.

    Args:
        row: A row of the table as a mapping; ``traj_id``, ``messages_json`` and ``tools_json``
            are read.
    """
    tools = decode(row["tools_json"]) if row["tools_json"] is not None else ()
    turns = tuple(_turn(message) for message in decode(row["messages_json"]))
    return Trajectory(row["traj_id"], turns, tuple(tools))


def original_row(row: Mapping[str, Any]) -> Any:
    """The row as it stood in the file, parsed: every key, in its order, with its value.

    A row made of several records is their list.

    NaN and infinities, which are not JSON, come back as null.

    Args:
        row: A row of the table as a mapping; ``origin_format``, ``messages_json``,
            ``tools_json`` and ``extra_json`` are read.
    """
    original: Any = decode(row["extra_json"])
    tools = decode(row["tools_json"]) if row["tools_json"] is not None else []
    canonical = Canonical(decode(row["messages_json"]), tools)
    if isinstance(original, dict):
        for key, value in format_named(row["origin_format"]).restored(canonical).items():
            if key in original and original[key] is None:
                original[key] = value
    return original


def conversation_columns(row: Any, canonical: Canonical, form: Format) -> dict[str, Any]:
    """The columns that come from the conversation, and ``extra_json``.

    Raises:
        NotJsonError: If a value is nested too deeply to be written.
    """
    messages = canonical.messages
    n_assistant = n_calls = n_chars = 0
    for message in messages:
        n_chars += len(message["content"])
        if message["role"] == "assistant":
            n_assistant += 1
            n_calls += len(message.get("tool_calls", ()))
    text = encode_utf8(messages)
    return {
        "content_sha256": content_sha256(canonical),
        "n_turns": len(messages),
        "n_assistant_turns": n_assistant,
        "n_tool_calls": n_calls,
        "n_chars": n_chars,
        "origin_format": form.name,
        "messages_json": text.decode(),
        "tools_json": encode(canonical.tools) if canonical.tools else None,
        "extra_json": encode(_extra(row, form.restored(canonical), messages, text)),
    }


def content_sha256(canonical: Canonical) -> str:
    """SHA-256 over messages and tools as JSON with sorted keys, in hexadecimal."""
    whole = {"messages": canonical.messages, "tools": canonical.tools}
    return hashlib.sha256(encode_utf8(whole, sort_keys=True)).hexdigest()


def _extra(row: Any, restored: Row, messages: list[Row], text: bytes) -> Any:
    """The row, null where ``restored`` gives the same JSON text, key order and all.

    Args:
        row: The row as it stood.
        restored: See ``Format.restored``.
        messages: The canonical messages.
        text: Their JSON text, so that plain ones, which are restored as they are, are written once.
    """
    if not isinstance(row, dict):
        return row
    extra = dict(row)
    for key, value in restored.items():
        if key in extra and (
            value is extra[key] or _text_of(value, messages, text) == encode_utf8(extra[key])
        ):
            extra[key] = None
    return extra


def _text_of(value: Any, messages: list[Row], text: bytes) -> bytes:
    """The JSON text of a restored value; plain messages are restored as they are."""
    is_told = type(value) is list and len(value) == len(messages)
    is_told = is_told and all(map(operator.is_, value, messages))
    return text if is_told else encode_utf8(value)


def _turn(message: Row) -> Turn:
    calls = (
        ToolCall(name=call["name"], arguments=call["arguments"], call_id=call["id"])
        for call in message.get("tool_calls", ())
    )
    return Turn(
        role=message["role"],
        content=message["content"],
        tool_calls=tuple(calls),
        tool_call_id=message.get("tool_call_id", ""),
        reasoning=message.get("reasoning", ""),
        is_trained=not message.get("untrained", False),
    )

"""One row of the trajectory table: made from a conversation, read back, undone.

The canonical columns and ``extra_json`` together hold all of a row: ``original_row`` gives
back what stood in the file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import polars as pl

from trajweight.formats import Canonical, Format, Row, format_named
from trajweight.jsontext import decode, encode
from trajweight.trajectory import TRAJECTORY_COLUMNS, ToolCall, Trajectory, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping


def table_schema() -> pl.Schema:
    """The polars schema of the trajectory table, in column order."""
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
    assistant = [message for message in messages if message["role"] == "assistant"]
    return {
        "content_sha256": content_sha256(canonical),
        "n_turns": len(messages),
        "n_assistant_turns": len(assistant),
        "n_tool_calls": sum(len(message.get("tool_calls", ())) for message in assistant),
        "n_chars": sum(len(message["content"]) for message in messages),
        "origin_format": form.name,
        "messages_json": encode(messages),
        "tools_json": encode(canonical.tools) if canonical.tools else None,
        "extra_json": encode(_extra(row, form.restored(canonical))),
    }


def content_sha256(canonical: Canonical) -> str:
    """SHA-256 over messages and tools as JSON with sorted keys, in hexadecimal."""
    text = encode({"messages": canonical.messages, "tools": canonical.tools}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _extra(row: Any, restored: Row) -> Any:
    """The row, null where ``restored`` gives the same JSON text, key order and all."""
    if not isinstance(row, dict):
        return row
    return {
        key: None if key in restored and encode(restored[key]) == encode(value) else value
        for key, value in row.items()
    }


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

"""Rows of OpenAI messages read back as canonical ones, for tests of targets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trajweight.trainers.dialogues import Message


def through_parquet(row: dict[str, Any], schema: pa.Schema, folder: Path) -> dict[str, Any]:
    """The row as it comes back from a file of the schema, without what is null."""
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
    return _without_nulls(pq.read_table(path).to_pylist()[0])


def canonical(messages: list[Message]) -> list[Message]:
    """Messages as a run holds them; arguments may be objects or JSON text."""
    return [_canonical(message) for message in messages]


def _canonical(message: Message) -> Message:
    made = {"role": message["role"], "content": message["content"]}
    if message.get("tool_calls"):
        made["tool_calls"] = [
            {"id": call["id"], "name": function["name"], "arguments": _decoded(function)}
            for call in message["tool_calls"]
            for function in [call["function"]]
        ]
    if "tool_call_id" in message:
        made["tool_call_id"] = message["tool_call_id"]
    if "reasoning_content" in message:
        made["reasoning"] = message["reasoning_content"]
    if message.get("train") is False:
        made["untrained"] = True
    return made


def _decoded(function: dict[str, Any]) -> Any:
    arguments = function["arguments"]
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value

"""Pieces that several formats put their turns together from, and the check of the whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.formats.turns import canonical_call
from trajweight.jsontext import NotJsonError, decode, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trajweight.records import Record

_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_SCHEMA_KEYS: Final = ("parameters", "input_schema", "inputSchema")
_LISTED: Final = 3
_SHOWN: Final = 120


def assembled(
    messages: list[Row],
    *,
    tools: Sequence[Row] = (),
    remarks: Iterable[str] = (),
    said: Mapping[str, tuple[Any, str]] | None = None,
) -> Canonical:
    """The conversation that these turns make.

    Raises:
        UnusableError: If no assistant turn says anything, or none that does is to be trained on.
    """
    assistant = [(n, turn) for n, turn in enumerate(messages, 1) if turn["role"] == "assistant"]
    silent = [n for n, turn in assistant if not turn["content"].strip() and not calls_in(turn)]
    if len(silent) == len(assistant):
        reason = "no assistant turn has text or tool calls: nothing to train on"
        raise UnusableError(reason)
    if all(turn.get("untrained") for n, turn in assistant if n not in silent):
        reason = "every assistant turn that says something is only shown: nothing to train on"
        raise UnusableError(reason)
    quiet = [f"turn {n} is an assistant turn with no text and no tool call" for n in silent]
    return Canonical(messages, list(tools), (*quiet, *remarks), said or {})


def calls_in(turn: Row) -> list[Row]:
    """The calls of a canonical turn."""
    calls: list[Row] = turn.get("tool_calls", [])
    return calls


def assistant_turn(content: str, calls: list[Row], reasoning: str = "") -> Row:
    """A turn of the assistant, keys that would be empty left out."""
    turn: Row = {"role": "assistant", "content": content}
    if calls:
        turn["tool_calls"] = calls
    if reasoning:
        turn["reasoning"] = reasoning
    return turn


def tool_turn(content: str, call_id: Any) -> Row:
    """The result of a call; one whose call is not named has no ``tool_call_id``."""
    turn: Row = {"role": "tool", "content": content}
    if isinstance(call_id, str | int) and str(call_id):
        turn["tool_call_id"] = str(call_id)
    return turn


def text_of(content: Any, place: str, *, between: str = "") -> str:
    """The text of a content: text as it is, the parts of a list joined, nothing for null.

    Raises:
        UnusableError: If it holds anything but text; the reason begins with the place.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _part_text(content, place)
    if isinstance(content, list):
        return between.join(_part_text(part, place) for part in content)
    reason = f"{place} has {kind_of(content)} as content; text or text parts are known"
    raise UnusableError(reason)


def thinking_of(blocks: Any) -> str:
    """The text of the thinking blocks among others; a redacted block gives none."""
    if not isinstance(blocks, list):
        return ""
    texts = [_thought(block) for block in blocks if type_of(block) == "thinking"]
    return "\n".join(text for text in texts if text)


def n_redacted(blocks: Any) -> int:
    """How many blocks hold thinking that is not shown."""
    return sum(type_of(block) == "redacted_thinking" for block in objects(blocks))


def type_of(block: Any) -> str:
    """The type that a block names; empty where it is no block or names none."""
    name = block.get("type") if isinstance(block, dict) else None
    return name if isinstance(name, str) else ""


def objects(value: Any) -> list[Row]:
    """The objects in a list; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def calls_of(value: Any, place: str) -> list[Row]:
    """The calls of a list, each as `canonical_call` tells it.

    Raises:
        UnusableError: If it is no list of calls; the reason begins with the place.
    """
    if not value:
        return []
    if not isinstance(value, list):
        reason = f"{place} has {kind_of(value)} as tool_calls, not a list"
        raise UnusableError(reason)
    return [canonical_call(call, f"{place}, tool call {n}") for n, call in enumerate(value, 1)]


def function_tool(name: str, description: Any, parameters: Any) -> Row:
    """A tool definition as OpenAI writes it, what is not given left out."""
    function: Row = {"name": name}
    if isinstance(description, str) and description:
        function["description"] = description
    if isinstance(parameters, dict):
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def function_tools(value: Any, name: str) -> tuple[list[Row], tuple[str, ...]]:
    """Tool definitions as OpenAI writes them; a remark instead where they cannot be understood.

    A definition may stand without the wrapper, its schema under ``parameters``,
    ``input_schema`` or ``inputSchema``; one without any schema is kept and told.
    """
    if isinstance(value, str):
        try:
            value = decode(value) if value else None
        except NotJsonError:
            return [], (f"{name} is not a list of objects; the template gets none",)
    if not value:
        return [], ()
    if not isinstance(value, list) or len(objects(value)) < len(value):
        return [], (f"{name} is not a list of objects; the template gets none",)
    tools, bare = [], []
    for tool in value:
        if isinstance(tool.get("function"), dict) or not isinstance(tool.get("name"), str):
            tools.append(tool)
            continue
        schema = next((tool[key] for key in _SCHEMA_KEYS if isinstance(tool.get(key), dict)), None)
        tools.append(function_tool(tool["name"], tool.get("description"), schema))
        if schema is None:
            bare.append(tool["name"])
    return tools, (f"{name} is without a schema for {listing(bare)}",) if bare else ()


def run_of(record: Record) -> str:
    """A name for the run that a document with several trajectories tells of, where it has none."""
    try:
        raw = record.text if record.raw is None else record.raw
    except NotJsonError:  # nested too deeply to be written
        raw = f"record {record.number}"
    data = raw.encode() if isinstance(raw, str) else raw
    return f"run:{hashlib.sha256(data).hexdigest()[:16]}"


def listing(values: Sequence[Any]) -> str:
    """The first few of many, for a sentence: ``3, 5, 8 and 4 more``."""
    first = ", ".join(shown(str(value)) for value in values[:_LISTED])
    return first if len(values) <= _LISTED else f"{first} and {len(values) - _LISTED} more"


def shown(text: str) -> str:
    """A text from the data, cut so that it fits into a sentence."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _part_text(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    if type_of(part) not in _TEXT_PARTS:
        name = repr(shown(type_of(part))) if type_of(part) else kind_of(part)
        reason = f"{place} has a content part of type {name}; only text can be trained on"
        raise UnusableError(reason)
    text = part["text"] if "text" in part else part.get("value")
    if not isinstance(text, str):
        reason = f"{place} has a content part of type {type_of(part)!r} without text"
        raise UnusableError(reason)
    return text


def _thought(block: Row) -> str:
    text = block.get("thinking")
    if isinstance(text, list):  # some vendors write it as text parts
        parts = [part.get("text") for part in objects(text)]
        return "".join(part for part in parts if isinstance(part, str))
    return text if isinstance(text, str) else ""

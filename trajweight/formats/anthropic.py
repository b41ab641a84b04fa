"""Anthropic messages: content in blocks, tool results inside user messages, a system text apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.pieces import (
    assembled,
    assistant_turn,
    calls_of,
    function_tools,
    listing,
    n_redacted,
    objects,
    shown,
    text_of,
    thinking_of,
    tool_turn,
    type_of,
)
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import ROLE_ALIASES, listed
from trajweight.jsontext import NotJsonError, decode, encode, kind_of
from trajweight.trajectory import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.records import Sample

_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
#: What the phrase of `lacks` asks for.
_BLOCKS: Final = "content blocks of type tool_use, tool_result or thinking"


class Anthropic(Format):
    """Rows with messages in blocks; rows of plain text alone are OpenAI messages as well."""

    name = "anthropic"
    title = "Anthropic messages"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has messages, and something that only Anthropic writes."""
        messages = value.get("messages") if isinstance(value, dict) else None
        if messages is None:
            return ("a key messages", _BLOCKS)
        return () if _is_marked(value, messages) else (_BLOCKS,)

    def matches(self, sample: Sample) -> bool:
        """Whether a row among the first has such blocks: a file's first rows may be plain text."""
        values = sample.values
        first = values[0] if values else None
        if not isinstance(first, dict) or first.get("messages") is None:
            return False
        return any(not self.lacks(value) for value in values)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row, the results of tools before what the user says."""
        row = item.value
        messages: list[Row] = []
        seen = _Seen()
        if system := text_of(row.get("system"), "system", between="\n"):
            messages.append({"role": "system", "content": system})
        for number, message in enumerate(listed(row["messages"], "messages"), start=1):
            messages += _turns(message, number, seen)
        tools, remarks = function_tools(row.get("tools"), "tools")
        return assembled(messages, tools=tools, remarks=(*seen.remarks(), *remarks))


class _Seen:
    """What a conversation has that its turns cannot tell; grows turn by turn."""

    def __init__(self) -> None:
        self.errors: list[int] = []
        self.hidden: list[int] = []
        self.late: list[int] = []

    def remarks(self) -> Iterator[str]:
        if self.errors:
            yield f"is_error is set on results in messages {listing(self.errors)}"
        if self.hidden:
            yield f"redacted thinking is not told, in messages {listing(self.hidden)}"
        if self.late:
            yield f"text after a tool call is told before it, in messages {listing(self.late)}"


def _is_marked(row: Row, messages: Any) -> bool:
    """Whether a row has what only Anthropic writes: such blocks, or definitions of tools."""
    if isinstance(messages, str):
        try:
            messages = decode(messages)
        except NotJsonError:
            return False
    turns = objects(messages)
    blocks = [block for turn in turns for block in objects(turn.get("content"))]
    if any(_is_call(block) or _is_result(block) for block in blocks):
        return True
    # Vendors of the OpenAI way write thinking in such parts too, but their calls stand beside.
    is_other = any(turn.get("role") == "tool" or turn.get("tool_calls") for turn in turns)
    if not is_other and any(type_of(block) in _THINKING for block in blocks):
        return True
    tools = row.get("tools")
    if isinstance(tools, str):
        return '"input_schema"' in tools
    return any("input_schema" in tool for tool in objects(tools)) or any(
        type_of(block) == "text" for block in objects(row.get("system"))
    )


def _is_call(block: Any) -> bool:
    """A call of a tool of the user's, of the server's, or of an MCP server's."""
    return type_of(block).endswith("tool_use")


def _is_result(block: Any) -> bool:
    return type_of(block).endswith("tool_result")


def _turns(message: Any, number: int, seen: _Seen) -> list[Row]:
    """The turns of one message: its results come first, and results inside an answer split it."""
    place = f"message {number}"
    if not isinstance(message, dict):
        reason = f"{place} is {kind_of(message)}, not an object with role and content"
        raise UnusableError(reason)
    role = _role(message, place)
    content = message.get("content")
    if role == "assistant":
        return _answers(message, number, seen)
    if not isinstance(content, list):
        return [_plain(role, message, text_of(content, place))]
    results = [_result(block, number, seen) for block in content if _is_result(block)]
    rest = [block for block in content if not _is_result(block)]
    text = text_of(rest, place, between="\n")
    return [*results, _plain(role, message, text)] if text or not results else results


def _role(message: Row, place: str) -> str:
    said = message.get("role")
    role = ROLE_ALIASES.get(said, said) if isinstance(said, str) else None
    if role not in ROLES:
        shown_role = repr(shown(said)) if isinstance(said, str) else kind_of(said)
        reason = f"{place} has role {shown_role}; known roles are user and assistant"
        raise UnusableError(reason)
    return str(role)


def _plain(role: str, message: Row, text: str) -> Row:
    if role == "tool":  # written by tools that mix both vendors' ways
        return tool_turn(text, message.get("tool_call_id"))
    return {"role": role, "content": text}


def _answers(message: Row, number: int, seen: _Seen) -> list[Row]:
    """An assistant message: one turn, or several where a server's tool answered inside it."""
    content = message.get("content")
    alone: list[Any] = [] if content is None else [content]
    blocks = content if isinstance(content, list) else alone
    beside = calls_of(message.get("tool_calls"), f"message {number}")
    turns: list[Row] = []
    pending: list[Any] = []
    for block in blocks:
        if not _is_result(block):
            pending.append(block)
            continue
        if pending:
            turns.append(_answer(pending, [], number, seen))
            pending = []
        turns.append(_result(block, number, seen))
    if pending or beside or not turns:
        turns.append(_answer(pending, beside, number, seen))
    return turns


def _answer(blocks: list[Any], beside: list[Row], number: int, seen: _Seen) -> Row:
    place = f"message {number}"
    spoken = [block for block in blocks if type_of(block) not in _THINKING]
    is_call = [_is_call(block) for block in spoken]
    text = [block for block, calls in zip(spoken, is_call, strict=True) if not calls]
    calls = [_call(block, place) for block in spoken if _is_call(block)]
    if n_redacted(blocks):
        seen.hidden.append(number)
    if True in is_call and False in is_call[is_call.index(True) :]:
        seen.late.append(number)
    return assistant_turn(text_of(text, place), calls + beside, thinking_of(blocks))


def _call(block: Row, place: str) -> Row:
    name, call_id = block.get("name"), block.get("id")
    if not isinstance(name, str) or not name:
        reason = f"{place} has a {shown(type_of(block))} without a name"
        raise UnusableError(reason)
    arguments = block.get("input")
    return {
        "id": str(call_id) if isinstance(call_id, str | int) else "",
        "name": name,
        "arguments": {} if arguments is None else arguments,
    }


def _result(block: Row, number: int, seen: _Seen) -> Row:
    place = f"the {shown(type_of(block))} in message {number}"
    if block.get("is_error") is True:
        seen.errors.append(number)
    content = block.get("content")
    # What a server's tool gives back is no text, but the model has read it.
    is_ours = type_of(block) in ("tool_result", "mcp_tool_result")
    try:
        text = text_of(content, place, between="\n") if is_ours else encode(content)
    except NotJsonError as error:
        reason = f"{place} cannot be written: {error}"
        raise UnusableError(reason) from error
    return tool_turn(text, block.get("tool_use_id"))

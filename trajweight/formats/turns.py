"""One message of a row, in its many spellings, told canonically."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.jsontext import NotJsonError, decode, kind_of
from trajweight.trajectory import ROLES

ROLE_ALIASES: Final[dict[str, str]] = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
}
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})


def listed(value: Any, name: str) -> list[Any]:
    """The list that a column holds, decoded where the column holds it as JSON text.

    Raises:
        UnusableError: If it is no list, or an empty one.
    """
    if isinstance(value, str):
        try:
            value = decode(value)
        except NotJsonError as error:
            reason = f"{name} is text, but {error}"
            raise UnusableError(reason) from error
    if not isinstance(value, list):
        reason = f"{name} is {kind_of(value)}, not a list of turns"
        raise UnusableError(reason)
    if not value:
        reason = f"{name} is empty"
        raise UnusableError(reason)
    return value


def canonical_conversation(row: Row, items: list[Any]) -> Canonical:
    """All turns of a row, its system text and its tools.

    Raises:
        UnusableError: If a turn cannot be understood, or no assistant turn says anything.
    """
    messages = [canonical_message(item, number) for number, item in enumerate(items, start=1)]
    silent = [n for n, message in enumerate(messages, 1) if _is_silent_assistant(message)]
    if len(silent) == sum(message["role"] == "assistant" for message in messages):
        reason = "no assistant turn has text or tool calls: nothing to train on"
        raise UnusableError(reason)
    remarks = [f"turn {n} is an assistant turn with no text and no tool call" for n in silent]
    system = row.get("system")
    if isinstance(system, str) and system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    tools, tool_remarks = _tools(row)
    return Canonical(messages, tools, (*remarks, *tool_remarks))


def canonical_message(item: Any, number: int) -> Row:
    """One turn; ``number`` counts from 1 and names it in reasons.

    Raises:
        UnusableError: If the role is not known or the content is not text.
    """
    if not isinstance(item, dict):
        reason = f"turn {number} is {kind_of(item)}, not an object with role and content"
        raise UnusableError(reason)
    content = item["content"] if "content" in item else item.get("value")
    message: Row = {"role": _role(item, number), "content": _text(content, number)}
    if calls := _tool_calls(item, number):
        message["tool_calls"] = calls
    if call_id := item.get("tool_call_id"):
        message["tool_call_id"] = str(call_id)
    reasoning = item.get("reasoning_content") or item.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        message["reasoning"] = reasoning
    return message


def canonical_call(call: Any, place: str) -> Row:
    """A tool call, whose function may be nested (OpenAI) or flat; arguments are decoded.

    Raises:
        UnusableError: If it has no function name.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else function
    if not isinstance(name, str) or not name:
        reason = f"{place} has no function name"
        raise UnusableError(reason)
    holder = function if isinstance(function, dict) else call
    call_id = call.get("id")
    return {
        "id": "" if call_id is None else str(call_id),
        "name": name,
        "arguments": _arguments(holder.get("arguments")),
    }


def _role(item: Row, number: int) -> str:
    said = item["role"] if "role" in item else item.get("from")
    if said is None:
        reason = f"turn {number} has no role; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    role = ROLE_ALIASES.get(said, said) if isinstance(said, str) else said
    if role not in ROLES:
        reason = f"turn {number} has role {said!r}; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    return str(role)


def _text(content: Any, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part, number) for part in content)
    reason = f"turn {number} has {kind_of(content)} as content; text or text parts are known"
    raise UnusableError(reason)


def _part_text(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    name = part.get("type") if isinstance(part, dict) else kind_of(part)
    if not isinstance(part, dict) or name not in _TEXT_PARTS:
        reason = f"turn {number} has a content part of type {name!r}; only text can be trained on"
        raise UnusableError(reason)
    text = part["text"] if "text" in part else part.get("value")
    if not isinstance(text, str):
        reason = f"turn {number} has a content part of type {name!r} without text"
        raise UnusableError(reason)
    return text


def _tool_calls(item: Row, number: int) -> list[Row]:
    calls = item.get("tool_calls")
    if isinstance(calls, str) and calls:
        calls = listed(calls, f"tool_calls of turn {number}")
    if not calls and item.get("function_call"):
        calls = [item["function_call"]]  # the older spelling, one call a turn
    if not calls:
        return []
    if not isinstance(calls, list):
        reason = f"turn {number} has {kind_of(calls)} as tool_calls, not a list"
        raise UnusableError(reason)
    place = f"turn {number}, tool call"
    return [canonical_call(call, f"{place} {i}") for i, call in enumerate(calls, 1)]


def _arguments(value: Any) -> Any:
    """Arguments as an object where they are one, else as they stand."""
    if value is None or value == "":
        return {}
    if not isinstance(value, str):
        return value
    try:
        decoded = decode(value)
    except NotJsonError:
        return value
    return decoded if isinstance(decoded, dict) else value


def _is_silent_assistant(message: Row) -> bool:
    said = message["content"].strip() or message.get("tool_calls")
    return message["role"] == "assistant" and not said


def _tools(row: Row) -> tuple[list[Row], tuple[str, ...]]:
    """The row's tool definitions; a remark instead where they cannot be understood."""
    # `functions` only where there is no `tools` key at all: see `Format.restored`.
    tools = row["tools"] if "tools" in row else row.get("functions")
    if not tools:
        return [], ()
    if isinstance(tools, str):
        try:
            tools = decode(tools)
        except NotJsonError:
            tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return [], ("tools is not a list of objects; the template gets none",)
    is_old = "tools" not in row
    return [{"type": "function", "function": tool} for tool in tools] if is_old else tools, ()

"""Tool calls and tool definitions, in the spellings of many vendors."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import NotJsonError, decode, kind_of

#: Roles of turns that are nothing but a call: LLaMA-Factory and ms-swift.
CALL_ROLES: Final = frozenset({"function_call", "tool_call"})
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
_THOUGHT_ENDS: Final = "</think>"


def canonical_call(call: Any, place: str) -> Row:
    """A tool call, whose function may be nested (OpenAI) or flat; arguments are decoded.

    Raises:
        UnusableError: If it has no function name.
    """
    if isinstance(call, dict) and isinstance(call.get("custom"), dict):  # OpenAI, free-form input
        return canonical_call({**call["custom"], "id": call.get("id")}, place)
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else function
    if not isinstance(name, str) or not name:
        reason = f"{place} has no function name"
        raise UnusableError(reason)
    holder = function if isinstance(function, dict) else call
    arguments = next((holder[key] for key in _ARGUMENTS if key in holder), None)
    return {
        "id": call_id(call.get("id")),
        "name": name,
        "arguments": _decoded(arguments),
    }


def call_id(value: Any) -> str:
    """The id of a call as text; empty where the row gives none that is text or a number."""
    return str(value) if isinstance(value, str | int | float) else ""


def calls_beside(item: Row, number: int) -> list[Any]:
    """The calls in the fields beside a turn's content, not yet understood.

    Raises:
        UnusableError: If they are no list.
    """
    if "tool_calls" not in item and "function_call" not in item:
        return []
    calls = item.get("tool_calls")
    if isinstance(calls, str) and calls:
        calls = _decoded_list(calls, f"tool_calls of turn {number}")
    if not calls and item.get("function_call"):
        calls = [item["function_call"]]  # the older spelling, one call a turn
    if not calls:
        return []
    if not isinstance(calls, list):
        reason = f"turn {number} has {kind_of(calls)} as tool_calls, not a list"
        raise UnusableError(reason)
    return calls


def called(value: Any, place: str) -> tuple[str, list[Any]]:
    """What a turn that is nothing but a call says, and the calls it makes.

    It is one call or a list of them, as JSON text or not; thinking may stand before it.

    Raises:
        UnusableError: If it is neither, or no JSON.
    """
    said = ""
    if isinstance(value, str):
        if value.lstrip().startswith("<think>") and _THOUGHT_ENDS in value:
            thought, _, value = value.partition(_THOUGHT_ENDS)
            said = thought + _THOUGHT_ENDS
        try:
            value = decode(value)
        except NotJsonError as error:
            reason = f"{place}, but its value is {error}"
            raise UnusableError(reason) from error
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) for call in calls):
        reason = f"{place} without name and arguments"
        raise UnusableError(reason)
    return said, calls


def tools_of(row: Row) -> tuple[list[Row], tuple[str, ...]]:
    """The row's tool definitions; a remark instead where they cannot be understood."""
    # `functions` only where there is no `tools` key at all: see `Format.restored`.
    tools = row["tools"] if "tools" in row else row.get("functions")
    if not tools:
        return [], ()
    if isinstance(tools, str):
        tools = _decoded_or_none(tools)
    if isinstance(tools, list):  # a column of lists holds each definition as JSON text
        tools = [_decoded_or_none(tool) if isinstance(tool, str) else tool for tool in tools]
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return [], ("tools is not a list of objects; the template gets none",)
    is_old = "tools" not in row
    return [{"type": "function", "function": tool} for tool in tools] if is_old else tools, ()


def _decoded(value: Any) -> Any:
    """Arguments as an object where they are one, else as they stand."""
    if value is None or value == "":
        return {}
    if not isinstance(value, str):
        return value
    decoded = _decoded_or_none(value)
    return decoded if isinstance(decoded, dict) else value


def _decoded_or_none(text: str) -> Any:
    try:
        return decode(text)
    except NotJsonError:
        return None


def _decoded_list(text: str, name: str) -> Any:
    try:
        return decode(text)
    except NotJsonError as error:
        reason = f"{name} is text, but {error}"
        raise UnusableError(reason) from error

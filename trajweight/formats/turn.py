"""One turn of a row, in its many spellings, told canonically."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from trajweight.formats.calls import CALL_ROLES, call_id, called, calls_beside, canonical_call
from trajweight.formats.content import reasoning_beside, said_in
from trajweight.formats.flags import FlagsSeen
from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import kind_of
from trajweight.trajectory import ROLES

ROLE_ALIASES: Final[dict[str, str]] = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
    "observations": "tool",
    "tool_response": "tool",
    **dict.fromkeys(CALL_ROLES, "assistant"),
}
_ROLES: Final[dict[str, str]] = {**{role: role for role in ROLES}, **ROLE_ALIASES}
#: Roles of turns that are their text and nothing else, by what says them.
SPEAKING: Final = {name: role for name, role in _ROLES.items() if name not in CALL_ROLES}
_ASKING: Final = ("human", "user")
_ANSWERING: Final = ("assistant", "gpt", "bot")


@dataclass(slots=True)
class Notes:
    """What is odd in the turns of one row; grows turn by turn."""

    flags: FlagsSeen = field(default_factory=FlagsSeen)
    remarks: list[str] = field(default_factory=list)


def canonical_message(item: Any, number: int) -> Row:
    """One turn; ``number`` counts from 1 and names it in reasons.

    Raises:
        UnusableError: If the role is not known or the content is not text.
    """
    return told_turn(item, number, Notes())


def plain_turn(item: Any) -> Row | None:
    """The turn, where it holds a role and its text and nothing else, in either spelling."""
    if type(item) is not dict or len(item) != 2:
        return None
    is_message = "role" in item
    said = item["role"] if is_message else item.get("from")
    text = item.get("content" if is_message else "value")
    if type(said) is not str or type(text) is not str or said not in SPEAKING:
        return None
    return {"role": SPEAKING[said], "content": text}


def spread(item: Any) -> list[Any]:
    """The turns that an item holds: itself, or a question and its answer.

    Such a pair, ``{"human": ..., "assistant": ...}``, has no role of its own (ms-swift).
    """
    if not isinstance(item, dict) or item.get("role", item.get("from")) is not None:
        return [item]
    asking = next((key for key in _ASKING if key in item), None)
    answering = next((key for key in _ANSWERING if key in item), None)
    if asking is None or answering is None:
        return [item]
    rest = {key: value for key, value in item.items() if key not in (asking, answering)}
    pair = (("user", item[asking]), ("assistant", item[answering]))
    return [{**rest, "role": role, "content": text} for role, text in pair if text is not None]


def told_turn(item: Any, number: int, notes: Notes) -> Row:
    """One turn as ``canonical_message`` tells it; what is odd goes to the notes."""
    if not isinstance(item, dict):
        reason = f"turn {number} is {kind_of(item)}, not an object with role and content"
        raise UnusableError(reason)
    said_role, role = _role(item, number)
    content = item["content"] if item.get("content") is not None else item.get("value")
    reasoning = ""
    if said_role in CALL_ROLES and not item.get("tool_calls"):
        text, calls = called(content, f"turn {number} is a {said_role}")
    else:
        if content is None and role == "assistant":
            content = item.get("refusal")
        said = said_in(content, number, is_result=role == "tool")
        text, reasoning = said.text, said.reasoning
        notes.remarks += said.remarks
        calls = calls_beside(item, number)
        if said.calls:
            of_parts = [called(part, f"turn {number} has a tool_call part") for part in said.calls]
            text += "".join(thought for thought, _ in of_parts)
            calls = [*(call for _, part in of_parts for call in part), *calls]
    message: Row = {"role": role, "content": text}
    if calls:
        place = f"turn {number}, tool call"
        numbered = enumerate(calls, start=1)
        message["tool_calls"] = [canonical_call(call, f"{place} {i}") for i, call in numbered]
    if answered := call_id(item.get("tool_call_id")):
        message["tool_call_id"] = answered
    if role == "assistant":
        beside, remarks = reasoning_beside(item, number)
        notes.remarks += remarks
        if reasoning or beside:
            message["reasoning"] = reasoning or beside
    if notes.flags.is_untrained(item, role, number):
        message["untrained"] = True
    return message


def _role(item: Row, number: int) -> tuple[str, str]:
    """The role as the turn says it, in lower case, and what it is canonically."""
    said = item.get("role")
    if said is None:
        said = item.get("from")
    if said is None:
        reason = f"turn {number} has no role; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    name = said.lower().replace("-", "_") if isinstance(said, str) else ""
    if name not in _ROLES:
        shown = repr(said)[:40] if isinstance(said, str) else kind_of(said)
        reason = f"turn {number} has role {shown}; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    return name, _ROLES[name]


def is_call_turn(item: Row) -> bool:
    """Whether a turn is nothing but a call, in a role of its own."""
    said = item.get("role") or item.get("from")
    return isinstance(said, str) and said.lower().replace("-", "_") in CALL_ROLES

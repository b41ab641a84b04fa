"""Messages as tracing tools log them: any vendor's dialect in, canonical turns out.

A tool that logs model calls keeps each message as the library wrote it: OpenAI's chat and
Responses, Anthropic's blocks, LangChain's dumps, the parts of OpenTelemetry and of Vercel's AI
SDK. One call may hold several of these dialects, so they are told apart message by message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from trajweight.formats.message_parts import (
    CALL_IDS,
    CALLS,
    RESULTS,
    THOUGHTS,
    Notes,
    Speech,
    calls_beside,
    given_back,
    has_results,
    result_of,
    thought_beside,
)
from trajweight.formats.pieces import assistant_turn, shown, tool_turn, type_of
from trajweight.formats.protocol import Row, UnusableError
from trajweight.formats.turns import ROLE_ALIASES
from trajweight.jsontext import kind_of
from trajweight.trajectory import ROLES

#: LangChain's names of who speaks, as types of dumps and, with "Message" after them, as classes.
_SPEAKERS: Final = {
    "ai": "assistant",
    "human": "user",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "developer": "system",
}
#: Roles of messages that are nothing but their text, where they are text.
_PLAIN: Final = ("user", "assistant", "system")


@dataclass(slots=True)
class Talk:
    """What one call of a model was given and gave back, as canonical turns.

    Attributes:
        turns: The turns of the prompt, then of the answer.
        remarks: What the user should know.
    """

    turns: list[Row]
    remarks: tuple[str, ...] = ()


def turns_of(message: Any, number: int) -> Talk:
    """The turns of one message by itself; ``number`` names it in reasons.

    Raises:
        UnusableError: If it cannot be understood.
    """
    notes = Notes()
    turns = _turns_of(_unwrapped(message, number), number, notes)
    return Talk(turns, notes.remarks())


def turns_of_all(messages: list[Any], *, first: int = 1) -> Talk:
    """The turns of messages; items of OpenAI's Responses join the turn that they are of.

    Args:
        messages: The messages.
        first: The number of the first of them, for reasons.

    Raises:
        UnusableError: If one cannot be understood.
    """
    notes = Notes()
    turns: list[Row] = []
    was_piece = False
    for number, message in enumerate(messages, start=first):
        if not was_piece and _is_plain(message):
            turns.append({"role": message["role"], "content": message["content"]})
            continue
        plain = _unwrapped(message, number)
        is_piece = "role" not in plain
        told = _turns_of(plain, number, notes)
        both_answer = turns and told and turns[-1]["role"] == told[0]["role"] == "assistant"
        if both_answer and (is_piece or was_piece):
            turns[-1] = _joined(turns[-1], told[0])
            told = told[1:]
        turns += told
        was_piece = is_piece
    return Talk(turns, notes.remarks())


def is_message(value: Row) -> bool:
    """Whether an object is a message in one of the dialects."""
    has_role = isinstance(value.get("role"), str)
    if has_role and any(key in value for key in ("content", "parts", "tool_calls")):
        return True
    return _is_dump(value) or (_speaker(type_of(value)) in _SPEAKERS and "content" in value)


def is_part(value: Any) -> bool:
    """Whether it is a part of an answer, and no message of its own."""
    if not isinstance(value, dict):
        return isinstance(value, str)
    is_item = type_of(value) in (*CALLS, *RESULTS, *THOUGHTS)
    return not is_item and "role" not in value and not is_message(value)


def is_pair(value: Any) -> bool:
    """Whether a list is LangChain's short form of a message: who speaks, and the text."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(x, str) for x in value)


def _is_dump(value: Row) -> bool:
    """Whether it is a message that LangChain wrote, by its class or by its type."""
    path, inner = value.get("id"), value.get("kwargs")
    if isinstance(inner, dict) and isinstance(path, list) and path:
        return True
    return isinstance(value.get("data"), dict) and type_of(value) != ""


def _speaker(name: str) -> str:
    """A role, or who speaks by the type or the class that LangChain gives a message."""
    return name.removesuffix("Chunk").removesuffix("Message").lower()


def _is_plain(message: Any) -> bool:
    """Whether a message is canonical as it stands, as most are."""
    return (
        type(message) is dict
        and message.keys() == {"role", "content"}
        and message["role"] in _PLAIN
        and type(message["content"]) is str
    )


def _joined(one: Row, other: Row) -> Row:
    texts = (one["content"], other["content"])
    calls = [*one.get("tool_calls", ()), *other.get("tool_calls", ())]
    thoughts = (one.get("reasoning", ""), other.get("reasoning", ""))
    return assistant_turn("\n".join(filter(None, texts)), calls, "\n".join(filter(None, thoughts)))


def _unwrapped(message: Any, number: int) -> Row:
    """A message as an object whose role is canonical; an item of the Responses has none."""
    if is_pair(message):
        message = {"type": message[0], "content": message[1]}
    if isinstance(message, str):
        message = {"role": "user", "content": message}
    if not isinstance(message, dict):
        reason = f"message {number} is {kind_of(message)}, not an object with role and content"
        raise UnusableError(reason)
    said = type_of(message)
    if _is_dump(message):
        path = message.get("id")
        is_class = isinstance(message.get("kwargs"), dict) and isinstance(path, list)
        said = str(path[-1]) if is_class and path else said
        message = message["kwargs" if is_class else "data"]
    role = message.get("role")
    if role is None and said in (*CALLS, *RESULTS, *THOUGHTS):
        return {**message, "type": said}
    named = role if isinstance(role, str) else said
    name = _speaker(named)
    canonical = _SPEAKERS.get(name) or ROLE_ALIASES.get(name, name)
    if canonical not in ROLES:
        described = repr(shown(named)) if role is None or isinstance(role, str) else kind_of(role)
        reason = f"message {number} has role {described}; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    return {**message, "role": canonical}


def _turns_of(message: Row, number: int, notes: Notes) -> list[Row]:
    """The turns of one message: results first where another than the assistant speaks."""
    place = f"message {number}"
    content = message["parts"] if "parts" in message else message.get("content")
    if "role" not in message:
        content = [message]
    elif message["role"] == "tool" and not has_results(content):
        named = next((message[k] for k in CALL_IDS[:-1] if message.get(k)), None)
        return [tool_turn(given_back(content, place), named)]
    parts = content if isinstance(content, list) else [content] if content else []
    if message.get("role", "assistant") == "assistant":
        return _answer(message, parts, number, notes)
    results = [result_of(part, place) for part in parts if type_of(part) in RESULTS]
    said = Speech(number, notes)
    for part in parts:
        if type_of(part) not in RESULTS:
            said.take(part)
    if said.calls:
        reason = f"{place} is a {message['role']} message that calls a tool"
        raise UnusableError(reason)
    turn = {"role": message["role"], "content": said.text}
    return results if results and not said.text else [*results, turn]


def _answer(message: Row, parts: list[Any], number: int, notes: Notes) -> list[Row]:
    """The turns of an assistant message; the result of a server's tool inside it splits it."""
    place = f"message {number}"
    turns: list[Row] = []
    speech = Speech(number, notes)
    for part in parts:
        if type_of(part) not in RESULTS:
            speech.take(part)
            continue
        if not speech.is_empty:
            turns.append(speech.turn())
            speech = Speech(number, notes)
        turns.append(result_of(part, place))
    beside = calls_beside(message, place)
    known = {(call["id"], call["name"]) for turn in turns for call in turn.get("tool_calls", ())}
    # LangChain keeps a call twice, as a part and beside the content; the latter is its own.
    named = {(call["id"], call["name"]) for call in beside}
    mine = [call for call in speech.calls if (call["id"], call["name"]) not in named]
    speech.calls = [*mine, *(c for c in beside if (c["id"], c["name"]) not in known)]
    if not any(speech.thoughts):
        speech.thoughts = [thought_beside(message)]
    if not speech.is_empty or not turns:
        last = speech.turn()
        turns += [last] if not turns or len(last) > 2 or last["content"] else []
    return turns

"""All turns of a row, in their many spellings, told canonically."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.calls import canonical_call, tools_of
from trajweight.formats.content import said_in
from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.formats.turn import (
    ROLE_ALIASES,
    SPEAKING,
    Notes,
    canonical_message,
    is_call_turn,
    plain_turn,
    spread,
    told_turn,
)
from trajweight.jsontext import NotJsonError, decode, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ROLE_ALIASES",
    "canonical_call",
    "canonical_conversation",
    "canonical_message",
    "listed",
]

_CONTENT: Final = itemgetter("content")


@dataclass(frozen=True, slots=True)
class _Told:
    """Turns told canonically, each with the number of the item it came from.

    Attributes:
        messages: The turns.
        numbers: Their items, counted from 1.
        remarks: What the user should know.
    """

    messages: list[Row]
    numbers: Sequence[int]
    remarks: tuple[str, ...] = ()


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


def canonical_conversation(row: Row, items: list[Any], *, n_shown: int = 0) -> Canonical:
    """All turns of a row, its system text and its tools.

    Args:
        row: The row, for its system text and its tools.
        items: Its turns.
        n_shown: How many of the first items are given to the model and never trained on, such as
            those of a prompt.

    Raises:
        UnusableError: If a turn cannot be understood, or no assistant turn says anything.
    """
    plain = None if n_shown else _plain(items)
    told = _told(items, n_shown) if plain is None else _Told(plain, range(1, len(plain) + 1))
    messages = told.messages
    remarks = [
        f"turn {number} is an assistant turn with no text and no tool call"
        for number in _silent(told)
    ]
    system, system_remarks = _system(row, messages)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    tools, tool_remarks = tools_of(row)
    return Canonical(messages, tools, (*remarks, *told.remarks, *system_remarks, *tool_remarks))


def _plain(items: list[Any]) -> list[Row] | None:
    """The turns, where each holds a role and its text and nothing else; None elsewhere.

    Most rows are so. They are told here in a fraction of the time, the loops being those of C.
    """
    if set(map(type, items)) != {dict} or set(map(len, items)) != {2}:
        return None
    try:
        turns = [{"role": SPEAKING[item["role"]], "content": item["content"]} for item in items]
    except (KeyError, TypeError):  # another spelling, or a role that is no text
        return None
    return turns if set(map(type, map(_CONTENT, turns))) == {str} else None


def _told(items: list[Any], n_shown: int) -> _Told:
    """The turns, of whatever spelling; calls in turns of their own join the turn they are of."""
    messages: list[Row] = []
    numbers: list[int] = []
    notes = Notes()
    for number, item in enumerate(items, start=1):
        if number > n_shown and (plain := plain_turn(item)) is not None:
            messages.append(plain)
            numbers.append(number)
            continue
        for turn in spread(item):
            message = told_turn(turn, number, notes)
            if number <= n_shown and message["role"] == "assistant":
                message["untrained"] = True
                notes.flags.note("an assistant turn of the prompt is shown, not trained on", number)
            if messages and is_call_turn(turn) and _are_one(messages[-1], message):
                before = messages[-1].get("tool_calls", ())
                messages[-1]["tool_calls"] = [*before, *message["tool_calls"]]
            else:
                messages.append(message)
                numbers.append(number)
    if not messages:
        reason = "no turn holds anything"
        raise UnusableError(reason)
    return _Told(messages, numbers, (*notes.remarks, *notes.flags.remarks()))


def _are_one(before: Row, call: Row) -> bool:
    """Whether a turn that is nothing but a call belongs to the assistant turn before it."""
    return (
        before["role"] == "assistant"
        and before.get("untrained") == call.get("untrained")
        and not call["content"]
        and "reasoning" not in call
    )


def _silent(told: _Told) -> list[int]:
    """The assistant turns that say nothing.

    Raises:
        UnusableError: If no other is there, or none that is trained on.
    """
    silent = []
    n_shown = n_trained = 0
    for number, message in zip(told.numbers, told.messages, strict=True):
        if message["role"] != "assistant":
            continue
        if _says_nothing(message):
            silent.append(number)
        elif "untrained" in message:
            n_shown += 1
        else:
            n_trained += 1
    if n_trained:
        return silent
    reason = "no assistant turn has text or tool calls: nothing to train on"
    if n_shown:
        reason = "every assistant turn that says something is flagged as not to be trained on"
    raise UnusableError(reason)


def _says_nothing(message: Row) -> bool:
    content = message["content"]
    return (not content or content.isspace()) and "tool_calls" not in message


def _system(row: Row, messages: list[Row]) -> tuple[str, tuple[str, ...]]:
    """The system text that stands beside the turns, if none of them is one; and remarks."""
    text = row.get("system") or row.get("system_prompt")
    if not text:
        return "", ()
    if isinstance(text, list):
        try:
            text = said_in(text, 1).text
        except UnusableError:
            text = None
    if not isinstance(text, str):
        return "", ("system is not text; the template gets none",)
    if messages[0]["role"] != "system":
        return text, ()
    is_same = messages[0]["content"].strip() == text.strip()
    told = "system of the row is another text than that of its first turn; the turn is read"
    return "", () if is_same else (told,)

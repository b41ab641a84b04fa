"""Parts of a logged message, whoever wrote them: text, thoughts, calls, what calls gave back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from trajweight.formats.pieces import (
    assistant_turn,
    listing,
    objects,
    shown,
    text_of,
    tool_turn,
    type_of,
)
from trajweight.formats.protocol import Row, UnusableError
from trajweight.formats.turns import canonical_call
from trajweight.jsontext import NotJsonError, decode, encode, kind_of

#: Types of parts by what they are; a type of OpenAI's Responses names a whole item.
TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
THOUGHTS: Final = frozenset({"reasoning", "thinking"})
CALLS: Final = frozenset({"tool_call", "tool_use", "tool-call", "function_call"})
RESULTS: Final = frozenset(
    {"tool_call_response", "tool_result", "tool-result", "function_call_output"}
)
_SEALED: Final = frozenset({"redacted_thinking"})
#: Keys of a call's id, of its name, and of what a tool gave back, by who writes them.
CALL_IDS: Final = ("call_id", "tool_call_id", "tool_use_id", "toolCallId", "id")
_NAMES: Final = ("name", "toolName", "tool_name")
_GIVEN_BACK: Final = ("response", "result", "output", "content")


@dataclass(slots=True)
class Notes:
    """What the turns of a talk cannot tell; grows message by message."""

    hidden: list[int] = field(default_factory=list)

    def remarks(self) -> tuple[str, ...]:
        """One sentence for each kind."""
        if not self.hidden:
            return ()
        return (f"redacted thinking is not told, in messages {listing(self.hidden)}",)


class Speech:
    """Text, thoughts and calls of one turn, collected part by part."""

    def __init__(self, number: int, notes: Notes) -> None:
        self.place, self.number, self.notes = f"message {number}", number, notes
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[Row] = []

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self.texts)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken."""
        return not (self.texts or self.thoughts or self.calls)

    def take(self, part: Any) -> None:
        """Add one part.

        Raises:
            UnusableError: If it is neither text nor thought nor call.
        """
        kind = type_of(part)
        if isinstance(part, str):
            self.texts.append(part)
        elif kind in TEXTS or (kind == "" and isinstance(part, dict) and "text" in part):
            keys = ("text", "content", "value", "refusal")
            self.texts.append(self._text(part, keys))
        elif kind in THOUGHTS:
            self.thoughts.append(_thought(part))
        elif kind in _SEALED:
            self.notes.hidden.append(self.number)
        elif kind in CALLS:
            self.calls.append(call_of(part, f"{self.place}, tool call {len(self.calls) + 1}"))
        else:
            name = repr(shown(kind)) if kind else kind_of(part)
            reason = f"{self.place} has a part of type {name}; only text can be trained on"
            raise UnusableError(reason)

    def turn(self) -> Row:
        """The assistant turn that they make."""
        return assistant_turn(self.text, self.calls, "\n".join(filter(None, self.thoughts)))

    def _text(self, part: Row, keys: tuple[str, ...]) -> str:
        text = next((part[key] for key in keys if part.get(key) is not None), None)
        if not isinstance(text, str):
            reason = f"{self.place} has a part of type {type_of(part)!r} without text"
            raise UnusableError(reason)
        return text


def calls_beside(message: Row, place: str) -> list[Row]:
    """The calls that stand beside a message's content, those that were no JSON included."""
    more = message.get("additional_kwargs")
    more = more if isinstance(more, dict) else {}
    calls = opened(message.get("tool_calls")) or opened(more.get("tool_calls"))
    older = message.get("function_call") or more.get("function_call")
    if not calls and older:
        calls = [older]
    broken = [call for call in objects(message.get("invalid_tool_calls")) if call.get("name")]
    if not calls and not broken:
        return []
    if not isinstance(calls, list | None):
        reason = f"{place} has {kind_of(calls)} as tool_calls, not a list"
        raise UnusableError(reason)
    both = enumerate([*(calls or ()), *broken], start=1)
    return [call_of(opened(call), f"{place}, tool call {n}") for n, call in both]


def thought_beside(message: Row) -> str:
    """The reasoning that stands beside a message's content; empty where there is none."""
    more = message.get("additional_kwargs")
    holders = (message, more) if isinstance(more, dict) else (message,)
    keys = ("reasoning_content", "reasoning", "thinking")
    found = (holder.get(key) for holder in holders for key in keys)
    return next((text for text in found if isinstance(text, str) and text), "")


def call_of(part: Any, place: str) -> Row:
    """A call in any spelling, as `canonical_call` tells it."""
    if isinstance(part, dict) and not isinstance(part.get("function"), dict):
        name = next((part[key] for key in _NAMES if part.get(key)), part.get("function"))
        part = {**part, "name": name, "id": _first(part, CALL_IDS)}
        part.pop("function", None)
    return canonical_call(part, place)


def result_of(part: Row, place: str) -> Row:
    """The tool turn that a result makes.

    Raises:
        UnusableError: If it holds what cannot be written.
    """
    given = next((part[key] for key in _GIVEN_BACK if part.get(key) is not None), None)
    return tool_turn(given_back(given, place), _first(part, CALL_IDS))


def has_results(content: Any) -> bool:
    """Whether some parts of a content are results of calls."""
    return any(type_of(part) in RESULTS for part in objects(content))


def given_back(value: Any, place: str) -> str:
    """What a tool gave back, as text; what is no text is written as JSON, as models read it."""
    if isinstance(value, dict) and type_of(value) in ("text", "json") and "value" in value:
        value = value["value"]
    parts = value if isinstance(value, list) else []
    if parts and all(type_of(part) in TEXTS or isinstance(part, str) for part in parts):
        return text_of(parts, place)
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return encode(value)
    except NotJsonError as error:
        reason = f"{place} has a result that cannot be written: {error}"
        raise UnusableError(reason) from error


def opened(value: Any) -> Any:
    """What a text holds that is JSON of an object or a list; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return decode(value)
        except NotJsonError:
            return value
    return value


def _thought(part: Row) -> str:
    found = next((part[k] for k in ("content", "thinking", "text", "reasoning") if part.get(k)), "")
    if not found:
        found = part.get("summary")
    if isinstance(found, str):
        return found
    texts = (each.get("text") for each in objects(found))
    return "\n".join(text for text in texts if isinstance(text, str))


def _first(part: Row, keys: tuple[str, ...]) -> Any:
    """The first text or whole number under these keys."""
    found = (part.get(key) for key in keys)
    return next((value for value in found if isinstance(value, str | int) and value != ""), None)

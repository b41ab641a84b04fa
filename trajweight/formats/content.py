"""What a turn says: its text in parts, and the reasoning that vendors keep beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import NotJsonError, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_REASONING_PARTS: Final = frozenset({"reasoning", "thinking"})
_SEALED: Final = frozenset({"redacted_thinking", "reasoning.encrypted"})
#: Where the text of a part may stand, by the tools that write such parts.
_TEXT_KEYS: Final = ("text", "value", "content")
_REASONING_KEYS: Final = ("text", "thinking", "value", "reasoning", "summary", "content")
#: Fields beside the content that hold reasoning, in the order they are asked.
_REASONING_FIELDS: Final = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_details",
    "thinking_blocks",
)
_ANY_REASONING: Final = frozenset(_REASONING_FIELDS)


@dataclass(frozen=True, slots=True)
class Said:
    """What the content of one turn holds.

    Attributes:
        text: The text, its parts joined.
        reasoning: The text of reasoning parts, a line break between two.
        calls: What tool call parts hold, not yet understood.
        remarks: What the user should know, without the place.
    """

    text: str
    reasoning: str = ""
    calls: tuple[Any, ...] = ()
    remarks: tuple[str, ...] = ()


def said_in(content: Any, number: int, *, is_result: bool = False) -> Said:
    """What a turn's content says, be it text, null or a list of parts.

    Args:
        content: The content.
        number: The turn, counted from 1, for reasons.
        is_result: Whether it is a tool's result, which may be any JSON value.

    Raises:
        UnusableError: If it is no text and holds no text parts.
    """
    if content is None:
        return Said("")
    if isinstance(content, str):
        return Said(content)
    if is_result and not _is_parts(content):
        return Said(_as_json(content, number))
    if isinstance(content, list):
        return _in_parts(content, number)
    reason = f"turn {number} has {kind_of(content)} as content; text or text parts are known"
    raise UnusableError(reason)


def reasoning_beside(item: Row, number: int) -> tuple[str, tuple[str, ...]]:
    """The reasoning in the fields beside a turn's content, and remarks on what was not read.

    Several fields mostly repeat one text, so the first that has any is taken.
    """
    if _ANY_REASONING.isdisjoint(item):
        return "", ()
    found: dict[str, str] = {}
    remarks = []
    for name in _REASONING_FIELDS:
        if not item.get(name):
            continue
        text, is_whole = _reasoning_text(item[name])
        if text.strip():
            found[name] = text
        if not is_whole:
            remarks.append(f"{name} of turn {number} is not all text; the rest is kept, not read")
    first = next(iter(found), "")
    remarks += [
        f"{name} of turn {number} is another text than {first}; {first} is read"
        for name, text in found.items()
        if text.strip() != found[first].strip()
    ]
    return found.get(first, ""), tuple(remarks)


def _in_parts(parts: Sequence[Any], number: int) -> Said:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[Any] = []
    remarks: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else kind_of(part)
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, dict) or not isinstance(kind, str | None):
            raise _unknown_part(kind, number)
        elif kind in _TEXT_PARTS or (kind is None and isinstance(part.get("text"), str)):
            texts.append(_text_of(part, _TEXT_KEYS, number))
            if calls:
                remarks.append(f"text of turn {number} is after a tool call; read before it")
        elif kind == "refusal":
            texts.append(_text_of(part, ("refusal", *_TEXT_KEYS), number))
        elif kind == "tool_call":
            calls.append(part.get("value", part))
        elif kind in _REASONING_PARTS or kind in _SEALED:
            text, is_whole = _reasoning_text([part])
            reasoning.append(text)
            if not is_whole:
                remarks.append(f"reasoning of turn {number} is not all text; kept, not read")
        else:
            raise _unknown_part(kind, number)
    thought = "\n".join(text for text in reasoning if text.strip())
    return Said("".join(texts), thought, tuple(calls), tuple(remarks))


def _text_of(part: Row, keys: tuple[str, ...], number: int) -> str:
    """The text of a part: what stands under the first of the keys that it has."""
    text = next((part[key] for key in keys if key in part), None)
    if not isinstance(text, str):
        reason = f"turn {number} has a content part of type {part.get('type')!r} without text"
        raise UnusableError(reason)
    return text


def _unknown_part(kind: Any, number: int) -> UnusableError:
    shown = repr(kind) if isinstance(kind, str | None) else kind_of(kind)
    reason = f"turn {number} has a content part of type {shown}; only text can be trained on"
    return UnusableError(reason)


def _is_parts(content: Any) -> bool:
    """Whether a value is a list of content parts, and not some JSON that a tool gave back."""
    if not isinstance(content, list):
        return False
    typed = [isinstance(part, dict) and isinstance(part.get("type"), str) for part in content]
    pairs = zip(content, typed, strict=True)
    return any(typed) and all(is_typed or isinstance(part, str) for part, is_typed in pairs)


def _as_json(value: Any, number: int) -> str:
    try:
        return encode(value)
    except NotJsonError as error:
        reason = f"turn {number} has a result that cannot be written: {error}"
        raise UnusableError(reason) from error


def _reasoning_text(value: Any) -> tuple[str, bool]:
    """The text of a reasoning field, and whether that is all of it.

    It is text, or a block with text, or a list of such; a block may hold blocks once more.
    """
    blocks = value if isinstance(value, list) else [value]
    texts: list[str] = []
    is_whole = True
    for block in blocks:
        inner = block
        if isinstance(block, dict):
            sealed = block.get("type")
            is_sealed = isinstance(sealed, str) and sealed in _SEALED
            keys = () if is_sealed else _REASONING_KEYS
            inner = next((block[key] for key in keys if block.get(key)), None)
        if isinstance(inner, list) and all(isinstance(part, dict) for part in inner):
            pieces = [next((p[key] for key in _TEXT_KEYS if key in p), None) for p in inner]
            whole = all(isinstance(piece, str) for piece in pieces)
            inner = "".join(piece for piece in pieces if isinstance(piece, str)) if whole else None
        if isinstance(inner, str):
            texts.append(inner)
        else:
            is_whole = False
    return "\n".join(texts), is_whole

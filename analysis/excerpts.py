"""How a trajectory reads in one line, with nothing in it that a terminal could act upon."""

from __future__ import annotations

import json
import unicodedata
from typing import Any, Final

#: Characters of an excerpt; a terminal shows as many of them as it has room for.
LIMIT: Final = 160
#: Controls, invisible format characters (also those that turn the direction of writing),
#: lone surrogates, private use, line and paragraph separators.
_ACTIVE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def excerpt(messages_json: str, *, limit: int = LIMIT) -> str:
    """The first words of the assistant, or of the user where the assistant says none.

    An assistant turn that only calls tools is told by its first call. White space is collapsed;
    see `inert` for what becomes of control characters.

    Args:
        messages_json: A row's canonical messages.
        limit: Most characters of the excerpt.
    """
    messages = json.loads(messages_json)
    for role in ("assistant", "user", "system", "tool"):
        for message in messages:
            said = _said(message) if message.get("role") == role else ""
            if said:
                return inert(said, limit=limit)
    return ""


def inert(text: str, *, limit: int | None = None) -> str:
    r"""Text on one line whose control characters are written out, so they show and do nothing.

    White space of any kind becomes single spaces. Doing it twice changes nothing more.

    Args:
        text: Any text.
        limit: Most characters; a longer text ends in "...".

    Example:
        >>> inert("a\n b\x1b[31m")
        'a b\\x1b[31m'
    """
    if limit is not None:
        text = text[: 8 * limit]  # a message of megabytes is not worth a whole pass
    shown = "".join(map(_written_out, " ".join(text.split())))
    if limit is not None and len(shown) > limit:
        return shown[: limit - 3].rstrip() + "..."
    return shown


def _written_out(character: str) -> str:
    """The character, or its escape where it could act."""
    if unicodedata.category(character) not in _ACTIVE:
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def _said(message: dict[str, Any]) -> str:
    """What a message says: its text, else its first tool call."""
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if isinstance(content, str) and content.strip():
        return content
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        arguments = function.get("arguments", "")
        told = (
            arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        )
        return f"{function.get('name', '')}({told})"
    return ""

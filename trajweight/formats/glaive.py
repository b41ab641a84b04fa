"""Rows of Glaive function calling: a whole conversation as the text of one field, ``chat``."""

from __future__ import annotations

import re
from typing import Any, Final

from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation
from trajweight.jsontext import NotJsonError, decode, kind_of

_SPEAKER: Final = re.compile(r"(?:\A\s*|(?<=\n\n))(USER|ASSISTANT|FUNCTION RESPONSE):[ \n]?")
_ROLES: Final = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_END: Final = "<|endoftext|>"
_CALL: Final = "<functioncall>"
#: A call as it is written: its arguments are JSON text in single quotes.
_QUOTED: Final = re.compile(r'\{"name": "([^"]+)", "arguments": \'(.*)\'\}', re.DOTALL)


class Glaive(Format):
    """Rows with a chat in which each speaker is named in capitals."""

    name = "glaive"
    title = "Glaive chats"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a system text and a chat that a speaker begins."""
        row = value if isinstance(value, dict) else {}
        lacks = [] if "system" in row else ["a key system"]
        chat = row.get("chat")
        if not isinstance(chat, str):
            return (*lacks, "a key chat")
        return tuple(lacks) if _SPEAKER.match(chat) else (*lacks, "a chat that begins with USER:")

    def canonical(self, item: Item) -> Canonical:
        """The turns of the chat; a call that cannot be understood stays the text it is."""
        row = item.value
        system = row["system"]
        if system is not None and not isinstance(system, str):
            reason = f"system is {kind_of(system)}, not text"
            raise UnusableError(reason)
        said = (system or "").strip().removeprefix("SYSTEM:").strip()
        return canonical_conversation({"system": said}, _turns(row["chat"]))


def _turns(chat: str) -> list[Row]:
    spoken = list(_SPEAKER.finditer(chat))
    ends = [*(match.start() for match in spoken[1:]), len(chat)]
    turns = []
    for match, end in zip(spoken, ends, strict=True):
        text = chat[match.end() : end].strip().removesuffix(_END).rstrip()
        turns.append(_turn(_ROLES[match[1]], text))
    return turns


def _turn(role: str, text: str) -> Row:
    before, is_call, call = text.partition(_CALL)
    if role != "assistant" or not is_call:
        return {"role": role, "content": text}
    quoted = _QUOTED.fullmatch(call.strip())
    try:
        function = {"name": quoted[1], "arguments": decode(quoted[2])} if quoted else decode(call)
    except NotJsonError:
        return {"role": role, "content": text}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return {"role": role, "content": text}
    return {"role": role, "content": before.strip(), "tool_calls": [function]}

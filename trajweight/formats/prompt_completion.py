"""Rows of TRL with ``prompt`` and ``completion``, as lists of messages or as text."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item, UnusableError
from trajweight.formats.turns import canonical_conversation
from trajweight.jsontext import NotJsonError, decode, kind_of

_SIDES: Final = {"prompt": "user", "completion": "assistant"}


class PromptCompletion(Format):
    """Rows with a prompt, which is shown, and the completion that is trained on."""

    name = "prompt-completion"
    title = "TRL prompt and completion"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a prompt and a completion."""
        row = value if isinstance(value, dict) else {}
        return tuple(f"a key {side}" for side in _SIDES if row.get(side) is None)

    def canonical(self, item: Item) -> Canonical:
        """The prompt, then the completion; assistant turns of the prompt are never trained on."""
        row = item.value
        prompt, completion = (_turns(row[side], side) for side in _SIDES)
        if not completion:
            reason = "completion is empty"
            raise UnusableError(reason)
        turns = [*prompt, *completion]
        return labelled(row, canonical_conversation(row, turns, n_shown=len(prompt)))


def _turns(value: Any, side: str) -> list[Any]:
    """The turns of one side: a list, one message, its JSON text, or text that is one turn."""
    if isinstance(value, str):
        value = _messages_in(value) or ([{"role": _SIDES[side], "content": value}] if value else [])
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        reason = f"{side} is {kind_of(value)}, not text or a list of messages"
        raise UnusableError(reason)
    return value


def _messages_in(text: str) -> list[Any] | None:
    """The messages that a text is the JSON of, if it is."""
    if not text.startswith("["):
        return None
    try:
        value = decode(text)
    except NotJsonError:
        return None
    is_messages = isinstance(value, list) and all(
        isinstance(message, dict) and "role" in message for message in value
    )
    return value if is_messages else None

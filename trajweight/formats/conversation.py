"""Rows with one ``conversation``: ms-swift's variant of ShareGPT, WildChat, LMSYS-Chat."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item
from trajweight.formats.turns import canonical_conversation, listed

_SAID: Final = frozenset({"content", "value", "assistant", "gpt", "bot"})


class Conversation(Format):
    """Rows with a list of turns, or of questions each with its answer."""

    name = "conversation"
    title = "a conversation of human and assistant"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a conversation whose turns say something in the usual way."""
        turns = value.get("conversation") if isinstance(value, dict) else None
        if not isinstance(turns, list | str):
            return ("a key conversation",)
        said = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
        has = isinstance(turns, str) or any(not _SAID.isdisjoint(turn) for turn in said)
        return () if has else ("a conversation whose turns have content",)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row."""
        row = item.value
        turns = listed(row["conversation"], "conversation")
        return labelled(row, canonical_conversation(row, turns))

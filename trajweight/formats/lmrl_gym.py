"""LMRL-Gym histories: texts of the environment and of the agent in turn, a reward for each."""

from __future__ import annotations

from typing import Any

from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.scores import total_of
from trajweight.formats.turns import canonical_conversation, listed
from trajweight.jsontext import kind_of


class LmrlGym(Format):
    """Rows with a text history; the agent's texts are those at odd positions, counted from 0."""

    name = "lmrl-gym"
    title = "LMRL-Gym text histories"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a text history."""
        has = isinstance(value, dict) and value.get("text_history") is not None
        return () if has else ("a key text_history",)

    def canonical(self, item: Item) -> Canonical:
        """The history, its reward being the sum of all rewards."""
        row = item.value
        history = listed(row["text_history"], "text_history")
        turns = [_turn(text, n) for n, text in enumerate(history)]
        found = canonical_conversation({}, turns)
        said, remarks = total_of(row.get("rewards", row.get("reward")), "the rewards of all texts")
        return Canonical(found.messages, [], (*found.remarks, *remarks), said)


def _turn(text: Any, position: int) -> Row:
    """A turn of a text, which may say by itself whether it is the agent's."""
    is_action: Any = position % 2 == 1
    if isinstance(text, list) and len(text) == 2:
        text, is_action = text
    elif isinstance(text, dict):
        text, is_action = text.get("text"), text.get("is_action")
    if not isinstance(text, str) or not isinstance(is_action, bool):
        kinds = f"{kind_of(text)} and {kind_of(is_action)}"
        reason = f"turn {position + 1} should be text and whether it is an action; it is {kinds}"
        raise UnusableError(reason)
    return {"role": "assistant" if is_action else "user", "content": text}

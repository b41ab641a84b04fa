"""Preference rows, a chosen answer beside a rejected one: known, and refused in words."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from trajweight.formats.protocol import Format, Item, UnusableError
from trajweight.formats.turns import ROLE_ALIASES

_PAIRS: Final = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"))


class Preference(Format):
    """Rows with two answers to one prompt. A row that also holds a whole conversation is none."""

    name = "preference"
    title = "preference pairs"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a chosen and a rejected answer, and no conversation that ends in an answer."""
        row = value if isinstance(value, dict) else {}
        each = [tuple(name for name in pair if row.get(name) is None) for pair in _PAIRS]
        fewest = min(each, key=len)
        lacks = tuple(f"a key {name}" for name in fewest)
        if any(_ends_in_an_answer(row.get(key)) for key in ("messages", "conversations")):
            lacks += ("an answer that is still open",)
        return lacks

    def canonical(self, item: Item) -> NoReturn:
        """Refuse the row.

        Raises:
            UnusableError: Always.
        """
        row = item.value
        chosen, rejected = next(
            pair for pair in _PAIRS if all(row.get(name) is not None for name in pair)
        )
        reason = (
            f"a preference row: {chosen} and {rejected} are two answers to one prompt, and weights "
            "are learned for one trajectory a row; make a row of messages from each answer, with "
            "its own reward"
        )
        raise UnusableError(reason)


def _ends_in_an_answer(turns: Any) -> bool:
    last = turns[-1] if isinstance(turns, list) and turns else None
    said = (last.get("role") or last.get("from")) if isinstance(last, dict) else None
    return isinstance(said, str) and ROLE_ALIASES.get(said, said) == "assistant"

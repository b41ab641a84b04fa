"""Between words and actions: an action stands in [brackets], whatever is said around it."""

from __future__ import annotations

import re
from typing import Final

_ACTION: Final = re.compile(r"\[([^\[\]\n]*)\]")


def said(action: str, wording: str = "[{}]") -> str:
    """An action in words.

    Example:
        >>> said("move north", "I will go: [{}].")
        'I will go: [move north].'
    """
    return wording.replace("{}", action)


def action_of(reply: str) -> str | None:
    """The action of a reply: what the last pair of brackets holds; None where there is none.

    Example:
        >>> action_of("Not [up], rather [ move  north ].")
        'move north'
    """
    found = _ACTION.findall(reply)
    return " ".join(found[-1].split()) if found and found[-1].strip() else None

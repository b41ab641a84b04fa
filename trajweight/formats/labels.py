"""The label of a row that was judged good or bad: a KTO row of TRL or LLaMA-Factory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trajweight.formats.protocol import Canonical, Row

_LABEL: Final = "label"
#: Fields that say whether a task was solved; they are asked before a label.
_OUTCOMES: Final = ("success", "resolved", "passed")


def labelled(row: Row, canonical: Canonical, *, column: str = _LABEL) -> Canonical:
    """The conversation, with the outcome that its row's label tells.

    Only true and false are such a label: other rows keep classes in the field.

    Args:
        row: The row.
        canonical: Its conversation.
        column: The field of the label.
    """
    label: Any = row.get(column)
    if not isinstance(label, bool) or any(row.get(name) is not None for name in _OUTCOMES):
        return canonical
    return replace(canonical, said={**canonical.said, "success": (label, column)})

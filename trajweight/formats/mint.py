"""MINT results: what was said stands in the state, what was asked in the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trajweight.formats.lookup import look_up
from trajweight.formats.protocol import Canonical, Format, Item
from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mint(Format):
    """Rows with the history of a state."""

    name = "mint"
    title = "MINT results"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "task": ("task.task_id",),
        "success": ("state.success",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has the history of a state, and a task."""
        has = value if isinstance(value, dict) else {}
        wanted = ("state.history", "task.task_id")
        return tuple(f"a key {path}" for path in wanted if look_up(has, path) is None)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row; what the tools give back are the user's turns."""
        history = look_up(item.value, "state.history")
        return canonical_conversation({}, listed(history, "state.history"))

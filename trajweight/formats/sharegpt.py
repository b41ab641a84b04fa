"""ShareGPT rows: ``conversations``, a list of objects with from and value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item, Row
from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPEAKERS: Final[dict[str, str]] = {
    "system": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}


class ShareGpt(Format):
    """Rows with a list of conversations: Hermes, AgentGym, AgentTuning, LLaMA-Factory."""

    name = "sharegpt"
    title = "ShareGPT conversations"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("item_id",)}  # of AgentGym

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has conversations."""
        has = isinstance(value, dict) and value.get("conversations") is not None
        return () if has else ("a key conversations",)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row; its turns may also be spelt with role and content."""
        row = item.value
        turns = listed(row["conversations"], "conversations")
        return labelled(row, canonical_conversation(row, turns))

    def restored(self, canonical: Canonical) -> Row:
        """Conversations in human and gpt turns; none where a turn holds more than its text."""
        values: Row = {}
        if all(message.keys() == {"role", "content"} for message in canonical.messages):
            values["conversations"] = [
                {"from": _SPEAKERS[message["role"]], "value": message["content"]}
                for message in canonical.messages
            ]
        if canonical.tools:
            values["tools"] = canonical.tools
        return values

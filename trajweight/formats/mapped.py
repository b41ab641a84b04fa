"""Rows of any layout whose conversation stands where the user says: ``--map messages=PATH``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajweight.errors import ConfigError
from trajweight.formats.labels import labelled
from trajweight.formats.lookup import look_up
from trajweight.formats.protocol import Canonical, Format, Item
from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mapped(Format):
    """Rows whose turns stand at a path, in any spelling that the house knows.

    Attributes:
        messages: Dotted path of the turns; empty in the registry, where it reads nothing.
        tools: Dotted path of the tool definitions; empty where they stand under their usual name.
    """

    name = "mapped"
    title = "messages at a path"

    def __init__(self, messages: str = "", tools: str = "") -> None:
        """Read the turns and the tools at these paths."""
        self.messages, self.tools = messages, tools

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has something at the path."""
        if not self.messages:
            return ("a path of its messages, named with --map messages=PATH",)
        has = isinstance(value, dict) and look_up(value, self.messages) is not None
        return () if has else (f"messages at {self.messages}",)

    def canonical(self, item: Item) -> Canonical:
        """The conversation at the path."""
        row = item.value
        items = listed(look_up(row, self.messages), self.messages)
        if self.tools:
            row = {**row, "tools": look_up(row, self.tools)}
        return labelled(row, canonical_conversation(row, items))


def mapped_format(name: str, paths: Mapping[str, str]) -> Mapped | None:
    """The format that ``--map`` makes, by what it maps; None where it maps no messages.

    Raises:
        ConfigError: If tools are mapped without messages, or a format of another name is asked for.
    """
    if "messages" not in paths and "tools" not in paths:
        return None
    if "messages" not in paths:
        message = f"--map tools={paths['tools']}: tools are mapped only beside messages"
        raise ConfigError(message, hint="Add --map messages=PATH.")
    if name not in ("auto", Mapped.name):
        message = f"--map messages={paths['messages']} makes a format of its own, not {name!r}"
        raise ConfigError(message, hint="Leave --format out, or the mapping.")
    return Mapped(paths["messages"], paths.get("tools", ""))

"""What the events of an OpenHands run tell, be they of the older kind or of the SDK."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trajweight.formats.pieces import listing, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.formats.protocol import Row


@dataclass(slots=True)
class Told:
    """The turns of a run, and what they leave out; grows event by event.

    Attributes:
        messages: The turns.
        tools: Tool definitions.
        model: The model that events name; empty where none does.
        silent: Events that are no turns, by their kind.
        n_condensed: How often the history was cut for the model.
        errors: Events, by number, whose result is said to be an error.
        notes: What else the user should know.
    """

    messages: list[Row] = field(default_factory=list)
    tools: list[Row] = field(default_factory=list)
    model: str = ""
    silent: Counter[str] = field(default_factory=Counter)
    n_condensed: int = 0
    errors: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> Iterator[str]:
        """What the turns do not tell, in sentences."""
        if self.silent:
            kinds = ", ".join(f"{shown(kind)} {n}" for kind, n in self.silent.most_common(8))
            more = ", ..." if len(self.silent) > 8 else ""
            yield f"no turn is told by these events: {kinds}{more}"
        if self.n_condensed:
            yield (
                f"what the model saw was condensed, times: {self.n_condensed}; "
                "the turns tell the whole history"
            )
        if self.errors:
            yield f"an error is said of results, in events {listing(self.errors)}"
        yield from self.notes

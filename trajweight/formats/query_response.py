"""Rows of ms-swift with ``query`` and ``response``; earlier turns stand in ``history``."""

from __future__ import annotations

from typing import Any

from trajweight.formats.exchanges import asked_and_answered, earlier
from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item
from trajweight.formats.turns import canonical_conversation


class QueryResponse(Format):
    """Rows with a query and its response."""

    name = "query-response"
    title = "ms-swift query and response"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a query and a response."""
        row = value if isinstance(value, dict) else {}
        wanted = ("query", "response")
        return tuple(f"a key {name}" for name in wanted if row.get(name) is None)

    def canonical(self, item: Item) -> Canonical:
        """The history, then the query and its response."""
        row = item.value
        pair = asked_and_answered({"query": row["query"]}, {"response": row["response"]})
        turns = [*earlier(row.get("history")), *pair]
        return labelled(row, canonical_conversation(row, turns))

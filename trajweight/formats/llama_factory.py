"""Rows of a LLaMA-Factory folder, read as its ``dataset_info.json`` describes them.

The container gives the entry of a file as hints: ``{"columns": {...}, "tags": {...},
"formatting": "alpaca" | "sharegpt" | "openai"}``. Names that an entry leaves out have
LLaMA-Factory's own defaults, which an entry with any column, or any tag, replaces altogether.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.exchanges import asked_and_answered, earlier
from trajweight.formats.labels import labelled
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMATTINGS: Final = ("alpaca", "sharegpt", "openai")
_COLUMNS: Final = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "messages": "conversations",
}
_TAGS: Final = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_ROLES: Final = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "tool_call",
    "system_tag": "system",
}


class LlamaFactory(Format):
    """Rows whose columns and speakers have the names that an entry of the index gives them."""

    name = "llama-factory"
    title = "LLaMA-Factory rows"

    def __init__(self, hints: Mapping[str, Any] | None = None) -> None:
        """Read rows as these hints describe them; in the registry there are none."""
        hints = hints or {}
        self.formatting = hints.get("formatting") or "alpaca"
        self.columns = _names(hints.get("columns"), _COLUMNS)
        self.tags = _names(hints.get("tags"), _TAGS)
        self.is_described = bool(hints)

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has the columns that the index names."""
        if not self.is_described:
            return ("an entry in a dataset_info.json beside its file",)
        row = value if isinstance(value, dict) else {}
        if {"chosen", "rejected"} <= self.columns.keys():
            names = [self.columns["chosen"], self.columns["rejected"]]
        elif self.formatting == "alpaca":
            names = [self.columns[what] for what in ("prompt", "response") if what in self.columns]
        else:
            names = [self._messages]
        return tuple(f"a key {name}" for name in names if row.get(name) is None)

    def canonical(self, item: Item) -> Canonical:
        """The conversation of a row."""
        row: Row = item.value
        if {"chosen", "rejected"} <= self.columns.keys():
            reason = (
                "a preference row: dataset_info.json says that it has two answers to one prompt, "
                "and weights are learned for one trajectory a row"
            )
            raise UnusableError(reason)
        turns = self._asked(row) if self.formatting == "alpaca" else self._spoken(row)
        beside = {name: self._column(row, name) for name in ("system", "tools")}
        canonical = canonical_conversation(beside, turns)
        column = self.columns.get("kto_tag")
        return labelled(row, canonical, column=column) if column else canonical

    @property
    def _messages(self) -> str:
        return self.columns.get("messages", _COLUMNS["messages"])

    def _column(self, row: Row, what: str) -> Any:
        name = self.columns.get(what)
        return None if name is None else row.get(name)

    def _asked(self, row: Row) -> list[Any]:
        """The turns of an Alpaca row."""
        questions = {what: self._column(row, what) for what in ("prompt", "query")}
        answers = {"response": self._column(row, "response")}
        turns = [*earlier(self._column(row, "history")), *asked_and_answered(questions, answers)]
        if not turns:
            reason = "neither a prompt nor a response"
            raise UnusableError(reason)
        return turns

    def _spoken(self, row: Row) -> list[Any]:
        """The turns of a row with messages, each with the names that the house knows."""
        roles: dict[str, str] = {}
        for tag, role in _ROLES.items():
            if tag in self.tags:  # where two tags are one word, the first of ours stands
                roles.setdefault(self.tags[tag], role)
        return [self._turn(turn, roles) for turn in listed(row[self._messages], self._messages)]

    def _turn(self, turn: Any, roles: Mapping[str, str]) -> Any:
        said, text = (self.tags.get(tag, _TAGS[tag]) for tag in ("role_tag", "content_tag"))
        if not isinstance(turn, dict) or not isinstance(turn.get(said), str):
            return turn  # it may have the usual names all the same
        rest = {key: value for key, value in turn.items() if key not in (said, text)}
        return {**rest, "role": roles.get(turn[said], turn[said]), "content": turn.get(text)}


def described(hints: Mapping[str, Any]) -> LlamaFactory | None:
    """The format that the index beside a file describes; None where there is no such index."""
    formatting = hints.get("formatting")
    if not hints.keys() & {"formatting", "columns", "tags"}:
        return None
    return LlamaFactory(hints) if formatting is None or formatting in _FORMATTINGS else None


def _names(given: Any, usual: Mapping[str, str]) -> dict[str, str]:
    """Names by what they name: those given, or the usual ones where none are."""
    if not isinstance(given, dict) or not given:
        return dict(usual)
    return {what: name for what, name in given.items() if isinstance(name, str)}

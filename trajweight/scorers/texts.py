"""What scorers without a model read of a row: its words, those of the assistant or all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from trajweight.errors import ConfigError
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    import polars as pl

    from trajweight.scorers.scorer import Pool

#: Either what the assistant says and is trained to say, or all that anybody says.
Reads = Literal["assistant", "all"]

#: A run of letters and digits is a word, and so is a run of signs.
WORD: Final = r"\w+|[^\w\s]+"
_WORD: Final = re.compile(WORD)


def texts_of(rows: pl.DataFrame, reads: Reads) -> list[str]:
    """One text a row, its turns on lines of their own; empty where nothing is read.

    A turn is its reasoning, its content and its tool calls. An assistant's turn that may not be
    trained on, such as one copied from a prompt, is not the assistant's.

    Args:
        rows: With a column ``messages_json``.
        reads: Whose turns.
    """
    texts = []
    for messages in rows["messages_json"]:
        turns = (_said(each) for each in decode(messages) if reads == "all" or _is_reply(each))
        texts.append("\n".join(turns))
    return texts


def words_of(text: str) -> list[str]:
    """The words of a text in small letters.

    Example:
        >>> words_of("Go [North]!")
        ['go', '[', 'north', ']!']
    """
    return _WORD.findall(text.lower())


def require_real(pool: Pool, name: str) -> None:
    """Refuse a pool without real rows.

    Raises:
        ConfigError: If there are none.
    """
    if pool.real.is_empty():
        message = f"{name} compares with real trajectories, and none is in training or validation."
        raise ConfigError(message, hint="Add real trajectories, or take a method that needs none.")


def _is_reply(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and not message.get("untrained")


def _said(message: dict[str, Any]) -> str:
    calls = (
        f"{call['name']} {encode(call['arguments'])}" for call in message.get("tool_calls", ())
    )
    parts = (message.get("reasoning", ""), message["content"], *calls)
    return "\n".join(part for part in parts if part)

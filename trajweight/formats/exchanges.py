"""Questions and answers in fields of their own, told as turns: Alpaca, ms-swift, LLaMA-Factory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajweight.formats.protocol import Row, UnusableError
from trajweight.formats.turns import listed
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def asked_and_answered(questions: Mapping[str, Any], answers: Mapping[str, Any]) -> list[Row]:
    """A user turn and the assistant turn that answers it.

    Args:
        questions: The texts that make the question, by the name of their field; those that are
            empty are left out, and a line break parts the others.
        answers: The answer, by the name of its field.

    Raises:
        UnusableError: If one of them is no text.
    """
    question = "\n".join(text for text in _texts(questions) if text)
    turns: list[Row] = [{"role": "user", "content": question}] if question else []
    return turns + [{"role": "assistant", "content": text} for text in _texts(answers)]


def earlier(history: Any) -> list[Any]:
    """The turns of a history: pairs of a question and its answer, either of which may be null.

    Raises:
        UnusableError: If it is something else.
    """
    if history is None or history in ("", []):
        return []
    turns: list[Any] = []
    for number, pair in enumerate(listed(history, "history"), start=1):
        if isinstance(pair, dict):  # a turn as in messages
            turns.append(pair)
        elif isinstance(pair, list) and len(pair) == 2:
            place = f"history {number}"
            said = zip(("user", "assistant"), pair, strict=True)
            turns += [
                {"role": role, "content": _text(text, place)}
                for role, text in said
                if text is not None
            ]
        else:
            reason = f"history {number} is {kind_of(pair)}, not a question and its answer"
            raise UnusableError(reason)
    return turns


def _texts(fields: Mapping[str, Any]) -> list[str]:
    return [_text(value, name) for name, value in fields.items() if value is not None]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        reason = f"{name} is {kind_of(value)}, not text"
        raise UnusableError(reason)
    return value

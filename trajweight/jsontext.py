"""JSON text in and out: fast where it can be, exact where it must be.

orjson does the ordinary work. The standard library takes over where orjson would lose
something: whole numbers beyond 64 bits (orjson rounds them in silence) and NaN or Infinity,
which are not JSON but are written by many tools (orjson cannot tell them from broken text).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

#: Nineteen digits in a row may be a whole number that 64 bits do not hold.
_LONG_NUMBER: Final = re.compile(r"[0-9]{19}")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_DEEP: Final = "values are nested too deeply"


class NotJsonError(ValueError):
    """Text is not usable JSON; the message is a reason for people to read."""


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A number that JSON does not know, read as null.

    Attributes:
        path: Keys and positions (from 0) that lead to it.
        value: What stood there: NaN, Infinity or -Infinity.
    """

    path: tuple[str | int, ...]
    value: str

    def __str__(self) -> str:
        """The place as a dotted path, and what was found there."""
        return f"{'.'.join(str(part) for part in self.path) or 'the value'} is {self.value}"


def decode(text: str) -> Any:
    """The value of a JSON text, whole numbers of any size kept exact.

    Raises:
        NotJsonError: If the text is no JSON, or holds NaN or Infinity.
    """
    value, non_finite = decode_leniently(text)
    if non_finite:
        reason = f"not JSON: {non_finite[0]}"
        raise NotJsonError(reason)
    return value


def decode_leniently(text: str) -> tuple[Any, tuple[NonFinite, ...]]:
    """The value of a JSON text, NaN and infinities read as null and listed.

    Args:
        text: One JSON value.

    Returns:
        The value, and every non-finite number found in it, in order.

    Raises:
        NotJsonError: If the text is no JSON, is nested too deeply, or is not Unicode.
    """
    try:
        if not _LONG_NUMBER.search(text):
            return orjson.loads(text), ()
    except orjson.JSONDecodeError:
        pass  # the standard library knows more numbers and says better what is wrong
    return _decode_exactly(text)


def encode(value: Any, *, sort_keys: bool = False) -> str:
    """Compact JSON text of a value that ``decode`` gave.

    Raises:
        NotJsonError: If the value is nested too deeply or holds text that is not Unicode.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None).decode()
    except TypeError as error:
        if "Recursion" in str(error):
            raise NotJsonError(_TOO_DEEP) from error
    try:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False
        )
    except RecursionError as error:
        raise NotJsonError(_TOO_DEEP) from error


def kind_of(value: Any) -> str:
    """What a JSON value is, in a word or two, for messages to people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _decode_exactly(text: str) -> tuple[Any, tuple[NonFinite, ...]]:
    found: list[NonFinite] = []
    try:
        value = _without_non_finite(json.loads(text), (), found)
    except RecursionError as error:
        raise NotJsonError(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at column {error.pos + 1}"
        raise NotJsonError(reason) from error
    except ValueError as error:  # a whole number of more digits than Python converts
        reason = f"not usable JSON: {error}"
        raise NotJsonError(reason) from error
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value, tuple(found)


def _without_non_finite(value: Any, path: tuple[str | int, ...], found: list[NonFinite]) -> Any:
    """A copy of the value with null for each non-finite number, each added to ``found``."""
    if isinstance(value, dict):
        return {key: _without_non_finite(item, (*path, key), found) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_non_finite(item, (*path, i), found) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        found.append(NonFinite(path, name))
        return None
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        reason = "text holds half of a surrogate pair (such as \\ud800), which is not Unicode"
        raise NotJsonError(reason) from error

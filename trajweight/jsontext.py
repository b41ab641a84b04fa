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

#: So many digits in a row may be a whole number that 64 bits do not hold.
_LONG: Final = 19
#: Every digit as 1 and every other byte as 0, so that digits in a row are found by a plain search.
_IS_DIGIT: Final = bytes(b"0"[0] <= byte <= b"9"[0] for byte in range(256))
#: Where every ninth byte is looked at, of a long number at least two in a row are.
_STRIDE: Final = 9
_HINT: Final = b"\x01" * 2
#: With more places to look at than these, all the text is.
_FEW_HINTS: Final = 8
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


def decode(text: str | bytes) -> Any:
    """The value of a JSON text, whole numbers of any size kept exact.

    Raises:
        NotJsonError: If the text is no JSON, or holds NaN or Infinity.
        UnicodeDecodeError: If bytes are not UTF-8.
    """
    value, non_finite = decode_leniently(text)
    if non_finite:
        reason = f"not JSON: {non_finite[0]}"
        raise NotJsonError(reason)
    return value


def decode_leniently(text: str | bytes) -> tuple[Any, tuple[NonFinite, ...]]:
    """The value of a JSON text, NaN and infinities read as null and listed.

    Args:
        text: One JSON value; as bytes it is UTF-8.

    Returns:
        The value, and every non-finite number found in it, in order.

    Raises:
        NotJsonError: If the text is no JSON, is nested too deeply, or is not Unicode.
        UnicodeDecodeError: If bytes are not UTF-8.
    """
    try:
        if not _has_long_number(text):
            return orjson.loads(text), ()
    except orjson.JSONDecodeError:
        pass  # the standard library knows more numbers and says better what is wrong
    return _decode_exactly(text if isinstance(text, str) else text.decode())


def encode(value: Any, *, sort_keys: bool = False) -> str:
    """Compact JSON text of a value that ``decode`` gave.

    Raises:
        NotJsonError: If the value is nested too deeply or holds text that is not Unicode.
    """
    return encode_utf8(value, sort_keys=sort_keys).decode()


def encode_utf8(value: Any, *, sort_keys: bool = False) -> bytes:
    """What ``encode`` gives, as UTF-8.

    Raises:
        NotJsonError: See ``encode``.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError as error:
        if "Recursion" in str(error):
            raise NotJsonError(_TOO_DEEP) from error
    try:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False
        ).encode()
    except RecursionError as error:
        raise NotJsonError(_TOO_DEEP) from error


def without_non_finite(value: Any) -> tuple[Any, tuple[NonFinite, ...]]:
    """A copy of a value with null for every number that is not finite, and those numbers."""
    found: list[NonFinite] = []
    return _without_non_finite(value, (), found), tuple(found)


def kind_of(value: Any) -> str:
    """What a JSON value is, in a word or two, for messages to people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _has_long_number(text: str | bytes) -> bool:
    """Whether nineteen digits stand in a row; most of the text need not be looked at."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    sample = data[::_STRIDE].translate(_IS_DIGIT)
    at = sample.find(_HINT)
    hints = 0
    while at >= 0:
        hints += 1
        if hints > _FEW_HINTS:
            return _holds_long_number(data)
        first = at * _STRIDE  # the first byte of the number that was looked at
        if _holds_long_number(data[max(0, first - _STRIDE + 1) : first + _LONG]):
            return True
        at = sample.find(_HINT, at + 1)
    return False


def _holds_long_number(data: bytes) -> bool:
    return b"\x01" * _LONG in data.translate(_IS_DIGIT)


def _decode_exactly(text: str) -> tuple[Any, tuple[NonFinite, ...]]:
    found: list[NonFinite] = []
    try:
        value = _without_non_finite(json.loads(text), (), found)
    except RecursionError as error:
        raise NotJsonError(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        reason = f"not JSON: {error.msg} at {place}column {error.colno}"
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

"""The formats that rows come in, each known by its content; one file a format."""

from __future__ import annotations

from typing import Final

from trajweight.formats import messages, sharegpt
from trajweight.formats.protocol import Canonical, Format, Row, UnusableError

__all__ = ["FORMATS", "Canonical", "Format", "Row", "UnusableError", "detect", "format_named"]

#: In the order they are asked; the first that matches takes the row.
FORMATS: Final[tuple[Format, ...]] = (messages, sharegpt)


def detect(row: Row) -> Format:
    """The format of a row.

    Raises:
        UnusableError: If no format knows the row; the reason names the keys seen.
    """
    for candidate in FORMATS:
        if candidate.matches(row):
            return candidate
    seen = ", ".join(list(row)[:12]) or "none"
    reason = f"no known format: expected a key messages or conversations; keys seen: {seen}"
    raise UnusableError(reason)


def format_named(name: str) -> Format:
    """The format whose rows carry this name in ``origin_format``.

    Raises:
        KeyError: If there is none.
    """
    return {candidate.NAME: candidate for candidate in FORMATS}[name]

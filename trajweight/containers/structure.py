"""Where the values of JSON text end, found in any cut of it into chunks, at memory's speed.

Nothing is decoded. Strings are told from the rest by the parity of the quotes that no backslash
escapes, and the depth of a byte is the brackets opened before it less those closed. Text that is
no JSON has ends too, though wrong ones; whoever decodes a piece finds that out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes that mean something else behind a backslash, for who looks for the ends of values.
_ESCAPED: Final = b'"\\'
_QUOTE, _COMMA, _OPEN, _CLOSE = 1, 2, 3, 4
_CODES: Final = bytes(
    {b'"': _QUOTE, b",": _COMMA, b"[": _OPEN, b"{": _OPEN, b"]": _CLOSE, b"}": _CLOSE}.get(
        bytes([byte]), 0
    )
    for byte in range(256)
)


@cache
def _steps() -> Any:
    """By its code, how deep a byte leads."""
    import numpy as np

    steps = np.zeros(5, dtype=np.int8)
    steps[_OPEN], steps[_CLOSE] = 1, -1
    return steps


@dataclass(frozen=True, slots=True)
class Mark:
    """A byte at which a value may begin or end.

    Attributes:
        place: Its place in the chunk.
        depth: Brackets open after it; below zero where more are closed than were opened.
        is_comma: Whether it is a comma, else a bracket.
    """

    place: int
    depth: int
    is_comma: bool


class Structure:
    """Follows JSON text chunk by chunk."""

    def __init__(self, *, with_commas: bool = True) -> None:
        """Stand before the first byte; commas are marks, or they are passed over."""
        self._with_commas = with_commas
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def marks(self, chunk: bytes) -> Sequence[Mark]:
        """The outermost marks of the next chunk, in order.

        These are the brackets that open the first level or close it, the commas on the first
        level, and the first bracket that closes what was never opened; after that one nothing
        more is found in the chunk.
        """
        import numpy as np

        if not chunk:
            return ()
        if self._is_escaped and chunk[0] in _ESCAPED:
            chunk = b"_" + chunk[1:]
        if b"\\\\" in chunk:
            # Replacing runs from left to right, and a run of backslashes is paired from its left
            # end. What is left of a run escapes the byte after it.
            chunk = chunk.replace(b"\\\\", b"__")
        self._is_escaped = chunk.endswith(b"\\")
        codes = np.frombuffer(chunk.translate(_CODES), dtype=np.uint8)
        places = np.flatnonzero(codes != 0)
        kinds = codes[places]
        # Before the first place stands nothing of this chunk.
        before = np.frombuffer(chunk, dtype=np.uint8)[places - 1]
        is_quote = (kinds == _QUOTE) & ((before != ord("\\")) | (places == 0))
        inside = (np.cumsum(is_quote, dtype=np.int64) + self._is_in_string) % 2 == 1
        steps = _steps()[kinds] * ~inside
        depths = self._depth + np.cumsum(steps, dtype=np.int64)
        if len(places):
            self._is_in_string, self._depth = bool(inside[-1]), int(depths[-1])
        is_comma = (kinds == _COMMA) & ~inside & (depths == 1) & self._with_commas
        is_outer = (steps == 1) & (depths == 1) | (steps == -1) & (depths <= 0)
        kept = np.flatnonzero(is_comma | is_outer)
        if len(astray := np.flatnonzero(depths[kept] < 0)):
            kept = kept[: astray[0] + 1]
        found = (places[kept].tolist(), depths[kept].tolist(), is_comma[kept].tolist())
        return [Mark(*each) for each in zip(*found, strict=True)]

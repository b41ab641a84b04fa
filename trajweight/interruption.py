"""A wish to end: honoured at once, or between two steps where the work asks for that.

Who catches signals is no matter of the library; the command line hands over what it caught.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupted(BaseException):
    """The work was asked to end; not an `Exception`, as `KeyboardInterrupt` is none.

    Attributes:
        signal: Number of the signal that asked.
        exit_code: What a shell shows for a program that this signal ended.
    """

    def __init__(self, signal: int) -> None:
        """Keep the signal's number."""
        super().__init__(f"interrupted by signal {signal}")
        self.signal = signal
        self.exit_code = 128 + signal


class Interruption:
    """Whether the work was asked to end.

    Attributes:
        signal: Number of the first signal that asked; 0 while none has.
    """

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.signal = 0
        self._waits = False

    def ask(self, signal: int) -> None:
        """Ask the work to end: at once, unless it is deferred and this is the first time.

        Raises:
            Interrupted: To end at once.
        """
        is_first, self.signal = not self.signal, self.signal or signal
        if not (is_first and self._waits):
            raise Interrupted(signal)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block the first wish waits until `heed` is called, or the block ends."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self.heed()

    def heed(self) -> None:
        """End the work if that was asked for.

        Raises:
            Interrupted: If it was.
        """
        if self.signal:
            raise Interrupted(self.signal)

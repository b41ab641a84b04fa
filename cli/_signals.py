"""SIGINT and SIGTERM become a wish to end, which the library honours when it can be saved."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from trajweight.interruption import Interruption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_HEEDED: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heeding_signals() -> Iterator[Interruption]:
    """In this block the two signals ask for an end; the handlers before come back after it.

    A signal that was ignored before stays so, as `nohup` and shells want it for what runs in the
    background; outside the main thread nothing is changed.
    """
    interruption = Interruption()

    def ask(number: int, _: FrameType | None) -> None:
        interruption.ask(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for each in _HEEDED:
            handler = signal.getsignal(each)
            # None is a handler that Python did not install and could not put back.
            if handler not in (signal.SIG_IGN, None):
                before[each] = signal.signal(each, ask)
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

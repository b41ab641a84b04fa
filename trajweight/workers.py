"""Pieces of work done by several processes at once; the results come in the order of the pieces.

What is done and found does not depend on how many processes there are. They live as long as the
work: when it ends, fails or is interrupted, none is left.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from trajweight.errors import TrajweightError
from trajweight.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

P = TypeVar("P")
R = TypeVar("R")

#: Seconds between two messages of a process on how far it is.
_INTERVAL: Final = 0.1
#: Seconds a process has to end when it was asked to.
_PATIENCE: Final = 5.0


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def done_in_order(
    work: Callable[[P, Progress], R], pieces: Sequence[P], *, jobs: int, progress: Progress
) -> list[R]:
    """Do every piece of work, by several processes where that is asked for.

    A program that asks for them must be importable, as for `multiprocessing`: what it does stands
    under ``if __name__ == "__main__"``.

    Args:
        work: Does one piece, and tells the progress how many units of it are done. For several
            processes it must be a function of a module, or a partial of one.
        pieces: What to do; the first ones are begun first.
        jobs: Processes at most; with one, or one piece, all is done in this process.
        progress: Told of the units of all.

    Raises:
        TrajweightError: If a process is gone before its work is done. And what ``work`` raises; of
            several failures that of the first piece.
        RuntimeError: If another process raises what is no error of ours.
    """
    if min(jobs, len(pieces)) <= 1:
        return [work(piece, progress) for piece in pieces]
    with _started(work, min(jobs, len(pieces))) as channels:
        return _dealt(pieces, channels, progress)


def _dealt(pieces: Sequence[P], idle: list[Connection], progress: Progress) -> list[Any]:
    """Give each process a piece when it has none, until all are done or one has failed."""
    results: dict[int, Any] = {}
    failures: dict[int, BaseException] = {}
    at_work: dict[Connection, int] = {}
    coming = iter(range(len(pieces)))
    while True:
        while idle and not failures and (number := next(coming, None)) is not None:
            channel = idle.pop()
            channel.send(pieces[number])
            at_work[channel] = number
        # Those begun before a piece that failed are waited for: one of them may fail as well, and
        # what is told must not depend on who was quicker.
        if not at_work or (failures and min(failures) < min(at_work.values())):
            break
        for channel in cast("list[Connection]", connection.wait(list(at_work))):
            kind, value = _heard(channel)
            if kind == "units":
                progress.advance(value)
                continue
            (results if kind == "done" else failures)[at_work.pop(channel)] = value
            idle.append(channel)
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(pieces))]


def _heard(channel: Any) -> tuple[str, Any]:
    try:
        kind, value = channel.recv()
    except (EOFError, OSError) as error:
        message = "a process that read files is gone: it was killed, or memory ran out"
        raise TrajweightError(message, hint="Use fewer: --jobs 1.") from error
    return kind, value


@contextmanager
def _started(work: Callable[[P, Progress], R], n: int) -> Iterator[list[Connection]]:
    """So many processes that wait for pieces, each at the end of a channel."""
    context = multiprocessing.get_context("spawn")
    # It would start with the first process, and let the signals through that are held then.
    resource_tracker.ensure_running()
    processes: list[BaseProcess] = []
    channels: list[Connection] = []
    try:
        for _ in range(n):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, work), daemon=True)
            with _signals_held(), _one_thread_each():
                process.start()
            there.close()  # so that it is heard when the process ends
            processes.append(process)
            channels.append(here)
        yield list(channels)
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.join(_PATIENCE)
            if each.is_alive():
                each.kill()
                each.join()
        for channel in channels:
            channel.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process started in this block never hears Ctrl-C: the one that started it ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """A process started in this block does not use every core by itself."""
    before = os.environ.get("POLARS_MAX_THREADS")
    os.environ["POLARS_MAX_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["POLARS_MAX_THREADS"]
        else:
            os.environ["POLARS_MAX_THREADS"] = before


def _serve(channel: Connection, work: Callable[[Any, Progress], Any]) -> None:
    """What a process does: one piece after another, until nobody asks for more."""
    with suppress(EOFError, ConnectionError):  # who asked is gone
        while True:
            channel.send(_answer(work, channel.recv(), _Teller(channel)))


def _answer(work: Callable[[Any, Progress], Any], piece: Any, teller: _Teller) -> tuple[str, Any]:
    """What became of a piece."""
    try:
        found = ("done", work(piece, teller))
    except TrajweightError as error:
        found = ("failed", error)
    except Exception as error:  # noqa: BLE001 - it is raised again where it is heard
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.add_note("".join(traceback.format_exception(error)))
        found = ("failed", told)
    teller.finish()
    return found


class _Teller(Progress):
    """Tells the process that gave the work how far it is, now and then."""

    def __init__(self, channel: Connection) -> None:
        self._channel, self._units, self._told = channel, 0, time.monotonic()

    def advance(self, units: int = 1, **facts: float) -> None:  # noqa: ARG002 - facts are not sent
        self._units += units
        if time.monotonic() - self._told > _INTERVAL:
            self.finish()

    def finish(self) -> None:
        self._channel.send(("units", self._units))
        self._units, self._told = 0, time.monotonic()

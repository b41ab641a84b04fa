"""Laws of shared work: what is found never depends on who found it, and nobody is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trajweight.errors import DataError, TrajweightError
from trajweight.progress import Progress
from trajweight.workers import cores, done_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator


class Heard(Progress):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.units = 0

    def advance(self, units: int = 1, **facts: float) -> None:
        self.units += units


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def squared(number: int, progress: Progress) -> tuple[int, int]:
    """A late piece is quicker than an early one."""
    time.sleep(0.02 * (6 - number))
    progress.advance(number)
    return number**2, os.getpid()


def failing(number: int, progress: Progress) -> int:
    time.sleep(0.3 if number == 2 else 0.0)
    if number >= 2:
        message = "is broken"
        raise DataError(message, path=Path(f"{number}.jsonl"), line=number, hint="Mend it.")
    return number


def surprised(number: int, progress: Progress) -> int:
    return [][number]


def vanishing(number: int, progress: Progress) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def lasting(folder: Path, number: int, progress: Progress) -> int:
    (folder / f"{number}").write_text(str(os.getpid()))
    time.sleep(0.5)  # what is told sooner waits for company
    progress.advance()
    time.sleep(60)
    return number


def test_results_come_in_the_order_of_the_pieces_from_as_many_processes_as_asked_for():
    progress = Heard()

    found = done_in_order(squared, range(6), jobs=3, progress=progress)

    assert [square for square, _ in found] == [0, 1, 4, 9, 16, 25]
    assert len({process for _, process in found}) == 3
    assert os.getpid() not in {process for _, process in found}
    assert progress.units == sum(range(6))


@pytest.mark.parametrize(("pieces", "jobs"), [([4, 5], 1), ([5], 4), ([], 4)])
def test_one_job_or_one_piece_needs_no_other_process(pieces, jobs):
    progress = Heard()

    found = done_in_order(squared, pieces, jobs=jobs, progress=progress)

    assert found == [(piece**2, os.getpid()) for piece in pieces]
    assert progress.units == sum(pieces)


def test_of_several_failures_the_first_pieces_is_told_as_it_was_raised():
    with pytest.raises(DataError) as caught:
        done_in_order(failing, range(5), jobs=2, progress=Progress())

    error = caught.value
    assert (str(error.path), error.line, error.hint) == ("2.jsonl", 2, "Mend it.")
    assert error.message == "2.jsonl:2: is broken"


def test_an_error_that_is_not_ours_comes_with_the_place_where_it_was_raised():
    with pytest.raises(RuntimeError, match="IndexError: list index out of range") as caught:
        done_in_order(surprised, range(2), jobs=2, progress=Progress())

    assert "in surprised" in "".join(caught.value.__notes__)


def test_a_process_that_is_gone_is_an_error_and_no_endless_wait():
    with pytest.raises(TrajweightError, match="is gone") as caught:
        done_in_order(vanishing, range(3), jobs=2, progress=Progress())

    assert "--jobs 1" in caught.value.hint


def test_an_interruption_ends_all_processes_at_once(tmp_path):
    class Impatient(Progress):
        def advance(self, units: int = 1, **facts: float) -> None:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        done_in_order(partial(lasting, tmp_path), range(2), jobs=2, progress=Impatient())

    assert time.monotonic() - began < 30
    started = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert started
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_process_uses_no_more_cores_than_it_may():
    assert 1 <= cores() <= (os.cpu_count() or 1)

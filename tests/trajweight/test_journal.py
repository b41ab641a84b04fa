"""What was interrupted and gone on with ends as what was never interrupted, to the last bit."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import torch

from tests.toy import Toy, search_of
from trajweight.bilevel import Learned, Search, learn
from trajweight.checkpoint import Checkpoints
from trajweight.config import OuterConfig
from trajweight.estimators import (
    Estimator,
    FiniteDifference,
    Ghost,
    Implicit,
    Penalty,
    Unrolled,
)
from trajweight.interruption import Interrupted
from trajweight.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

SHORT = OuterConfig(max_steps=4, min_steps=3, lifetime=3)
ESTIMATORS: dict[str, Estimator] = {
    "ghost": Ghost(every=2, validation_size=16),
    "ghost-exact": Ghost(fused=False, at="theta_next"),
    "finite-difference": FiniteDifference(every=2),
    "penalty": Penalty(),
    "unrolled": Unrolled(steps=3),
    "implicit": Implicit(every=2, iterations=2),
}


class KilledError(Exception):
    """Stands for the end of the process."""


def begun(estimator: Estimator) -> Search:
    return search_of(Toy(n_bad=80), outer=SHORT, estimator=estimator)


def went(estimator: Estimator, journal: Journal, step: Callable[[int], None]) -> Learned:
    """A search from where the journal left it; ``step`` is called before each step is kept."""
    search, count = begun(estimator), 0
    journal.resume(search)

    def between() -> None:
        nonlocal count
        count += 1
        step(count)
        journal.between(search)

    learned = learn(search, watch=journal.tell, between=between)
    journal.end_search(learned)
    return learned


def nothing(_: int) -> None:
    """Let the search go on."""


def weights_of(learned: Learned) -> list[Tensor]:
    return list(learned.head.state_dict().values())


def is_same(one: Learned, two: Learned) -> bool:
    same = (one.steps, one.stopped_because) == (two.steps, two.stopped_because)
    pairs = zip(weights_of(one), weights_of(two), strict=True)
    return same and all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_search_killed_at_any_step_goes_on_to_the_same_bits(tmp_path: Path, name) -> None:
    estimator, whole = ESTIMATORS[name], Journal()
    steps: list[int] = []
    expected = went(estimator, whole, steps.append)

    def die_at(last: int) -> Callable[[int], None]:
        def step(count: int) -> None:
            if count == last:
                raise KilledError

        return step

    for last in steps:
        checkpoints = Checkpoints(tmp_path / str(last), {})
        with pytest.raises(KilledError):
            went(estimator, Journal(checkpoints, every=2), die_at(last))
        again = Journal(checkpoints, every=2)
        again.reopen(lambda _: None)

        found = went(estimator, again, nothing)

        assert is_same(found, expected)
        assert str(again.told) == str(whole.told)  # as text, since no nan equals another


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_search_asked_to_end_loses_no_step(tmp_path: Path, name) -> None:
    estimator, whole = ESTIMATORS[name], Journal()
    steps: list[int] = []
    expected = went(estimator, whole, steps.append)

    for last in steps:
        first = Journal(Checkpoints(tmp_path / str(last), {}), every=100)

        def ask(count: int, journal: Journal = first, last: int = last) -> None:
            if count == last:
                journal.interruption.ask(signal.SIGTERM)

        with pytest.raises(Interrupted) as caught, first.interruption.deferred():
            went(estimator, first, ask)
        again = Journal(first.checkpoints, every=100)
        made: list[int] = []
        again.reopen(lambda _: None)
        found = went(estimator, again, made.append)

        assert caught.value.exit_code == 143
        assert len(made) == len(steps) - last
        assert is_same(found, expected)
        assert str(again.told) == str(whole.told)


def test_checkpoints_come_every_so_many_outer_steps_and_at_the_end(tmp_path: Path) -> None:
    class Counted(Checkpoints):
        def save(self, state) -> None:
            super().save(state)
            saved.append(len(state["told"]))

    saved: list[int] = []

    went(ESTIMATORS["ghost"], Journal(Counted(tmp_path, {}), every=2), nothing)

    assert saved == [2, 4]


def test_a_finished_search_is_kept_with_its_head(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {})
    learned = went(ESTIMATORS["ghost"], Journal(checkpoints), nothing)

    again = Journal(checkpoints)
    again.reopen(lambda _: None)

    [kept] = again.searches
    assert (kept["steps"], kept["stopped_because"]) == (learned.steps, learned.stopped_because)
    for name, tensor in learned.head.state_dict().items():
        assert torch.equal(kept["head"][name], tensor)


def test_where_a_search_began_is_kept_until_its_end_and_for_the_first_always(tmp_path) -> None:
    journal = Journal(Checkpoints(tmp_path, {}))
    said: list[str] = []
    for member in (1, 2, 3):
        journal.end_warm_up({"start": member, "real_adapter": -member})
        again = Journal(journal.checkpoints)
        again.reopen(said.append)
        assert again.warm[-1] == {"start": member, "real_adapter": -member}
        went(ESTIMATORS["ghost"], journal, nothing)

    again = Journal(journal.checkpoints)
    again.reopen(lambda _: None)

    assert again.warm == [
        {"start": 1, "real_adapter": -1},
        {"real_adapter": -2},
        {"real_adapter": -3},
    ]
    assert [text.removeprefix("going on from the checkpoint after ") for text in said] == [
        *("the warm-up", "warm-up 2", "warm-up 3"),
    ]


def test_it_is_said_where_the_work_goes_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {})
    said: list[str] = []
    Journal(checkpoints).reopen(said.append)
    journal = Journal(checkpoints, every=2)
    journal.end_warm_up({"start": 1})
    Journal(checkpoints).reopen(said.append)
    went(ESTIMATORS["ghost"], journal, nothing)
    Journal(checkpoints).reopen(said.append)

    assert said == [
        "going on from the checkpoint after the warm-up",
        "going on from the checkpoint after outer step 4",
    ]

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.runs import make_run, row
from trajweight.analysis import lookup
from trajweight.analysis.lookup import nearest_ids, traj_id_of
from trajweight.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

NAMES = ("task-1", "task-10", "task-11", "other", "Ünï[red]\x1b")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(name, text=f"reply {name!a}") for name in NAMES]
    return make_run(tmp_path, rows, dict.fromkeys(NAMES, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_an_id_means_itself_even_where_others_begin_with_it(run, name) -> None:
    assert traj_id_of(run, name) == name


@pytest.mark.parametrize(
    ("asked", "meant"), [("o", "other"), ("task-10", "task-10"), ("Ü", NAMES[4])]
)
def test_a_beginning_that_one_id_has_means_it(run, asked, meant) -> None:
    assert traj_id_of(run, asked) == meant


def test_a_beginning_that_several_have_is_refused_with_their_names(run) -> None:
    with pytest.raises(
        ConfigError, match="3 trajectories begin with 'task': task-1, task-10, task"
    ):
        traj_id_of(run, "task")


def test_a_beginning_is_letters_and_no_pattern(run) -> None:
    with pytest.raises(RunError):
        traj_id_of(run, "task.1")


@pytest.mark.parametrize(
    ("asked", "first"), [("tusk-10", "task-10"), ("OTHER", "other"), ("ask-11", "task-11")]
)
def test_an_unknown_id_is_an_error_that_names_the_nearest(run, asked, first) -> None:
    with pytest.raises(RunError) as caught:
        traj_id_of(run, asked)

    assert caught.value.exit_code == 3
    assert caught.value.hint.startswith(f"The nearest are {first}")


@pytest.mark.parametrize("asked", ["", "qqqqqqqq"])
def test_where_nothing_is_near_some_ids_are_named(run, asked) -> None:
    with pytest.raises(RunError) as caught:
        traj_id_of(run, asked)

    assert caught.value.hint == "Its ids are task-1, task-10, task-11, other, Ünï[red]\\x1b."


def test_nothing_in_an_id_acts_upon_a_terminal(run) -> None:
    with pytest.raises(RunError) as caught:
        traj_id_of(run, "x[red]\x1b")

    assert "\x1b" not in caught.value.hint


def test_among_very_many_ids_the_nearest_are_found_in_a_moment(monkeypatch) -> None:
    monkeypatch.setattr(lookup, "_COMPARED", 50)
    ids = pl.Series([f"{source}-{i}" for source in ("aaa", "bbb") for i in range(2000)])

    assert nearest_ids(ids, "bbb-1999x")[0] == "bbb-1999"

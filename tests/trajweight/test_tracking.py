from __future__ import annotations

import math
import sys

import pytest

from trajweight.errors import MissingError
from trajweight.tracking import tracker_of

STEPS = [
    {"step": 1, "outer_loss": 0.5, "settled": math.nan},
    {"step": 2, "outer_loss": 0.25, "settled": 0.9},
]


# tensorboard's own imports
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_what_was_sent_and_nothing_that_is_not_finite(tmp_path) -> None:
    tracker = tracker_of("tensorboard", tmp_path)
    for facts in STEPS:
        tracker.log(facts)
    tracker.close()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("outer/outer_loss")]
    assert losses == [(1, 0.5), (2, 0.25)]
    assert [event.step for event in found.Scalars("outer/settled")] == [2]


def test_heads_of_an_ensemble_have_curves_of_their_own(tmp_path) -> None:
    tracker = tracker_of("tensorboard", tmp_path)
    for member in (0, 1):
        tracker.log({"member": member, **STEPS[0]})
    tracker.close()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert "outer/outer_loss/head 0" in found.Tags()["scalars"]
    assert "outer/outer_loss/head 1" in found.Tags()["scalars"]


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_tracker_that_is_not_installed_is_an_error_with_its_remedy(
    name, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingError, match=f"{name} was asked for") as caught:
        tracker_of(name, tmp_path)

    assert f"pip install {name}" in str(caught.value.hint)


def test_without_a_tracker_nothing_is_written(tmp_path) -> None:
    tracker = tracker_of("none", tmp_path)
    tracker.log(STEPS[0])
    tracker.close()

    assert not list(tmp_path.iterdir())

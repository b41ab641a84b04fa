"""Laws of LMRL-Gym histories: the agent's texts are its turns, the return is the sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.formats.rows import (
    broken,
    detected,
    given_back,
    hold,
    messages,
    names_of,
    reason,
    sample,
    told,
)
from trajweight.formats.lmrl_gym import LmrlGym

FORM = LmrlGym()
ROWS = sample("lmrl_gym.jsonl")


def roles(history: list[object]) -> list[str]:
    return [turn["role"] for turn in messages({"text_history": history})]


def test_the_samples_are_of_this_format_and_of_no_other():
    assert detected(ROWS) == FORM.name
    assert {tuple(names_of(row)) for row in ROWS} == {(FORM.name,)}


def test_texts_at_odd_positions_are_the_agents():
    assert messages(ROWS[0]) == [
        {"role": "user", "content": "You stand by a pond. Goal: the gate.\n"},
        {"role": "assistant", "content": "go north\n"},
        {"role": "user", "content": "You see the gate.\n"},
        {"role": "assistant", "content": "open gate\n"},
    ]


def test_texts_that_say_whose_they_are_are_believed():
    assert [turn["role"] for turn in messages(ROWS[1])] == ["assistant", "user"] * 2
    assert roles([["a", True], ["b", False]]) == ["assistant", "user"]
    assert roles([["a", False], ["b", False], ["c", True]]) == ["user", "user", "assistant"]


@given(st.lists(st.integers(-8, 8), min_size=1))
def test_the_reward_is_the_sum_of_all_rewards(rewards):
    found = told({"text_history": ["a", "b"], "rewards": rewards})

    assert found.said["reward"] == (float(sum(rewards)), "the sum of the rewards of all texts")


def test_rewards_that_are_no_numbers_leave_the_reward_unknown():
    found = told({"text_history": ["a", "b"], "rewards": [1, "much"]})

    assert "reward" not in found.said
    assert found.remarks == ("the rewards of all texts are not all numbers; the reward is unknown",)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ([], "text_history is empty"),
        (5, "text_history is a number"),
        (["a", 5], "turn 2 should be text"),
        ([{"text": "a"}], "it is text and null"),
        (["a"], "nothing to train on"),
    ],
)
def test_a_history_that_cannot_be_understood_is_refused(history, why):
    assert why in reason({"text_history": history}, FORM)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_given_back_whole(row):
    assert given_back(row) == row


@given(broken(ROWS))
def test_a_broken_row_is_told_or_refused(value):
    hold(FORM, value)

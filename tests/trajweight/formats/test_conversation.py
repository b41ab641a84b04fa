"""Laws of rows with one conversation: pairs of ms-swift, turns of WildChat and LMSYS-Chat."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import broken, given_back, hold, messages, names_of, sample
from trajweight.formats import format_named

FORM = format_named("conversation")
ROWS = sample("conversation.jsonl")


def test_pairs_are_turns_after_the_system_text():
    assert [(message["role"], message["content"]) for message in messages(ROWS[0])] == [
        ("system", "You are a gardener."),
        ("user", "When do I sow peas?"),
        ("assistant", "From March on."),
        ("user", "And beans?"),
        ("assistant", "Not before the last frost."),
    ]


def test_turns_with_role_and_content_are_read_as_they_are():
    assert messages(ROWS[1]) == [dict(turn) for turn in ROWS[1]["conversation"]]


def test_an_answer_that_is_still_open_is_no_turn():
    pairs = [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": None}]

    assert len(messages({"conversation": pairs})) == 3


def test_a_flag_of_a_pair_is_that_of_its_answer():
    pairs = [{"human": "a", "assistant": "b", "loss": False}, {"human": "c", "assistant": "d"}]

    found = messages({"conversation": pairs})

    assert [message.get("untrained") for message in found] == [None, True, None, None]


@pytest.mark.parametrize("turns", [None, 5, [], ["a"], [{"role": "user", "text": "a"}]])
def test_a_conversation_of_other_turns_is_none_of_it(turns):
    assert names_of({"conversation": turns}) == []


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(row):
    assert json.dumps(given_back(row)) == json.dumps(row)


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)

"""Laws of preference rows: they are known, and refused in words that say what to do."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import ASK, REPLY, broken, form_of, hold, reason
from trajweight.formats import format_named

ROWS = [
    {"prompt": [ASK], "chosen": [REPLY], "rejected": [REPLY]},
    {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"},
    {"conversations": [{"from": "human", "value": "a"}], "chosen": REPLY, "rejected": REPLY},
    {"chosen_messages": [ASK, REPLY], "rejected_messages": [ASK, REPLY]},
]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_row_with_two_answers_is_refused_with_what_to_do(row):
    assert form_of(row).name == "preference"
    assert "two answers to one prompt" in reason(row)
    assert "make a row of messages from each answer" in reason(row)


def test_a_whole_conversation_beside_two_answers_is_read():
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]

    assert form_of({"conversations": turns, "chosen": "b", "rejected": "c"}).name == "sharegpt"


@given(broken(ROWS))
def test_no_broken_row_is_ever_usable(row):
    assert hold(format_named("preference"), row) == 0

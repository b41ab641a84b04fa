"""Laws of repair: what has one plain remedy is mended, nothing is made up, the rest stays."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.test_problems import MESSAGE, calls, result, says, user
from trajweight.jsontext import encode
from trajweight.problems import problems_of
from trajweight.repair import REPAIRS, repaired

CONVERSATIONS = st.lists(MESSAGE, max_size=8).map(lambda some: [*some, says("the end")])


def codes_of(messages) -> set[str]:
    return {problem.code for problem in problems_of(messages, text=encode(messages))}


def words_of(messages) -> list[str]:
    said = (message["content"].split() for message in messages)
    return [word for words in said for word in words]


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS)
def test_what_repair_promises_to_mend_is_gone_but_for_turns_that_cannot_be_one(messages):
    after = repaired(messages).messages

    assert not codes_of(after) & (set(REPAIRS) - {"roles-not-alternating"})


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS)
def test_only_what_was_wrong_is_mended_and_it_is_told(messages):
    before = copy.deepcopy(messages)

    found = repaired(messages)

    assert messages == before
    assert bool(found.codes) == (found.messages != messages)
    if not codes_of(messages) & set(REPAIRS):
        assert found.messages == messages


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS)
def test_repairing_twice_changes_nothing_more(messages):
    once = repaired(messages).messages

    assert repaired(once).messages == once


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS)
def test_no_word_is_made_up_and_none_before_the_last_reply_is_lost(messages):
    after = repaired(messages).messages

    assert words_of(after) == words_of(messages)  # all of these end in a reply


def test_an_orphan_result_becomes_a_user_turn():
    found = repaired([user("a"), says("b"), result("9", "c"), says("d")])

    assert found.messages == [user("a"), says("b"), user("c"), says("d")]
    assert found.codes == ("orphan-result",)


def test_repeated_ids_get_a_suffix_that_no_other_call_has():
    messages = [
        *(user(), calls("1", "1"), result("1", "a"), result("1", "b")),
        *(calls("1-2"), result("1-2", "c"), calls("1"), result("", "d"), says()),
    ]

    found = repaired(messages)

    ids = [call["id"] for m in found.messages for call in m.get("tool_calls", ())]
    answered = [m.get("tool_call_id") for m in found.messages if m["role"] == "tool"]
    assert ids == ["1", "1-3", "1-2", "1-4"]
    assert answered == ["1", "1-3", "1-2", None]
    assert found.codes == ("duplicate-call-id",)


def test_user_and_system_turns_at_the_end_are_cut_off():
    found = repaired([user(), says(), user(), {"role": "system", "content": "x"}])

    assert found.messages == [user(), says()]
    assert found.codes == ("trailing-user-turn",)


def test_an_empty_turn_goes_and_its_neighbours_become_one():
    found = repaired([user(), says("a"), user(" "), says("b")])

    assert found.messages == [user(), says("a\n\nb")]
    assert found.codes == ("roles-not-alternating", "empty-turn")


def test_a_call_in_the_second_of_two_turns_stays_with_its_result():
    made = {**calls("1"), "content": "b"}

    found = repaired([user(), says("a"), made, result("1"), says()])

    assert found.messages == [user(), {**made, "content": "a\n\nb"}, result("1"), says()]


@pytest.mark.parametrize(
    "messages",
    [
        [user(), calls("1"), user(), says()],
        [user(), calls("1")],
        [says(), user(), says()],
        [user(), calls("1"), says("b")],
        [user(), says(untrained=True), says("b")],
        [user(), says("a"), says("b", reasoning="c")],
        [user("<s>"), says()],
    ],
    ids=["no result", "open", "assistant first", "calls first", "copied", "reasoning", "token"],
)
def test_what_has_no_plain_remedy_stays_and_stays_flagged(messages):
    found = repaired(messages)

    assert found.messages == messages
    assert not found.codes
    assert codes_of(messages)

"""Laws of TRL's rows: the prompt is shown, the completion is trained on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import (
    ASK,
    REPLY,
    broken,
    given_back,
    hold,
    messages,
    reason,
    sample,
    told,
)
from trajweight.formats import format_named

FORM = format_named("prompt-completion")
ROWS = sample("prompt_completion.jsonl")


@pytest.mark.parametrize("prompt", [[ASK], ASK, json.dumps([ASK]), "Hi"])
@pytest.mark.parametrize("completion", [[REPLY], REPLY, json.dumps([REPLY]), "Hello"])
def test_either_side_is_messages_or_text(prompt, completion):
    assert messages({"prompt": prompt, "completion": completion}) == [ASK, REPLY]


def test_turns_of_the_prompt_are_never_trained_on():
    found = told(ROWS[0])

    assistant = [message for message in found.messages if message["role"] == "assistant"]
    assert [message.get("untrained", False) for message in assistant] == [True, False]
    assert found.remarks == ("an assistant turn of the prompt is shown, not trained on (turn 3)",)


def test_a_completion_of_many_turns_is_trained_on_in_all():
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    result = {"role": "tool", "content": "2"}

    found = messages({"prompt": [ASK], "completion": [call, result, REPLY]})

    assert len(found) == 4
    assert not any("untrained" in message for message in found)


def test_a_prompt_may_be_empty():
    assert messages({"prompt": [], "completion": [ASK, REPLY]}) == [ASK, REPLY]
    assert messages({"prompt": "", "completion": "Hello"}) == [REPLY]


def test_text_that_only_looks_like_a_list_stays_text():
    found = messages({"prompt": "[1, 2", "completion": "[3]"})

    assert [message["content"] for message in found] == ["[1, 2", "[3]"]


def test_label_of_a_kto_row_tells_the_outcome():
    assert told(ROWS[1]).said == {"success": (True, "label")}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": 5, "completion": "x"}, "prompt is a number, not text or a list of messages"),
        ({"prompt": "x", "completion": True}, "completion is true or false"),
        ({"prompt": [ASK], "completion": []}, "completion is empty"),
        ({"prompt": [ASK, REPLY], "completion": [ASK]}, "every assistant turn"),
    ],
)
def test_what_is_no_side_is_refused(row, said):
    assert said in reason(row)


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(row):
    assert json.dumps(given_back(row)) == json.dumps(row)


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)

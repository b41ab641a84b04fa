"""Laws of rows with messages: OpenAI's own, ms-swift's, LLaMA-Factory's weighted ones."""

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

FORM = format_named("messages")
ROWS = [
    *sample("messages.jsonl"),
    *sample("swift.jsonl"),
    *sample("llama_factory/weather_weighted.jsonl"),
]


def test_a_tool_conversation_is_told_in_its_turns():
    found = messages(sample("messages.jsonl")[0])

    assert [message["role"] for message in found] == [
        *("system", "user", "assistant", "tool", "assistant", "tool", "assistant")
    ]
    assert found[2] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "name": "find_book", "arguments": {"title": "star atlas"}}],
        "reasoning": "First see whether it is on the shelf.",
    }
    assert found[3] == {
        "role": "tool",
        "content": '{"book": "B-77", "on_shelf": true}',
        "tool_call_id": "c1",
    }


def test_parallel_calls_keep_their_ids_and_results_their_order():
    found = messages(sample("messages.jsonl")[1])

    assert [call["id"] for call in found[1]["tool_calls"]] == ["a", "b"]
    assert [message["tool_call_id"] for message in found[2:4]] == ["b", "a"]


def test_swift_calls_and_responses_are_calls_of_one_turn_and_their_results():
    found = messages(sample("swift.jsonl")[0])

    assert [message["role"] for message in found] == [
        *("user", "assistant", "tool", "tool", "assistant")
    ]
    assert [call["arguments"]["harbour"] for call in found[1]["tool_calls"]] == [
        "Weyhaven",
        "Norport",
    ]


def test_weighted_rows_of_llama_factory_hold_reasoning_calls_and_turns_not_trained_on():
    found = messages(sample("llama_factory/weather_weighted.jsonl")[0])

    assert found[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "", "name": "fog", "arguments": {}}],
        "reasoning": "Ask the sensor.",
        "untrained": True,
    }
    assert "untrained" not in found[3]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_json_text_is_read_as_its_value(row):
    lists = {key: value for key, value in row.items() if isinstance(value, list)}
    texts = {key: json.dumps(value) for key, value in lists.items()}

    assert told({**row, **texts}) == told(row)


def test_a_label_that_is_true_or_false_tells_the_outcome():
    for label in (True, False):
        found = told({"messages": [ASK, REPLY], "label": label})

        assert found.said == {"success": (label, "label")}


@pytest.mark.parametrize("extra", [{"label": 1}, {"label": "spam"}, {"label": None}, {}])
def test_any_other_label_is_none(extra):
    assert told({"messages": [ASK, REPLY], **extra}).said == {}


def test_an_outcome_of_its_own_comes_before_a_label():
    assert told({"messages": [ASK, REPLY], "label": True, "resolved": False}).said == {}


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(row):
    assert json.dumps(given_back(row)) == json.dumps(row)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "messages is empty"),
        ({}, "messages is an object, not a list of turns"),
        ("[", "messages is text, but not JSON"),
        ("[]", "messages is empty"),
    ],
)
def test_messages_that_are_no_list_of_turns_are_refused(value, said):
    assert said in reason({"messages": value})


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)

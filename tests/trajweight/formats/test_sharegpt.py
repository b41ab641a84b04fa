"""Laws of ShareGPT rows, those of Hermes, AgentGym and LLaMA-Factory among them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import broken, given_back, hold, messages, sample, told
from trajweight.formats import format_named
from trajweight.formats.lookup import look_up

FORM = format_named("sharegpt")
ROWS = [*sample("sharegpt.jsonl"), *sample("agentgym.jsonl")]


def test_call_and_observation_are_a_tool_call_and_its_answer():
    found = told(sample("sharegpt.jsonl")[0])

    assert found.messages[0] == {
        "role": "system",
        "content": "You keep the kitchen of a small inn.",
    }
    assert found.messages[2]["tool_calls"] == [
        {"id": "", "name": "stock", "arguments": {"thing": "leeks"}}
    ]
    assert found.messages[3] == {"role": "tool", "content": '{"left": 9}'}
    assert [tool["name"] for tool in found.tools] == ["stock"]


def test_calls_of_hermes_stay_the_text_they_are():
    row = sample("sharegpt.jsonl")[1]

    found = messages(row)

    assert [message["content"] for message in found] == [
        item["value"] for item in row["conversations"]
    ]
    assert [message["role"] for message in found] == [
        *("system", "user", "assistant", "tool", "assistant")
    ]
    assert all(message.keys() == {"role", "content"} for message in found)


def test_turns_without_loss_are_not_trained_on():
    found = told(sample("agentgym.jsonl")[0])

    assistant = [message for message in found.messages if message["role"] == "assistant"]
    assert [message.get("untrained", False) for message in assistant] == [True, False, False]
    assert len(found.remarks) == 1


def test_item_of_agentgym_is_the_task():
    (path,) = FORM.fields["task"]

    assert [look_up(row, path) for row in sample("agentgym.jsonl")] == ["cellar_4", "cellar_4"]


def test_pairs_of_question_and_answer_are_two_turns_each():
    pairs = [{"human": "a", "assistant": "b"}, {"user": "c", "gpt": "d"}]

    found = messages({"conversations": pairs})

    assert [(message["role"], message["content"]) for message in found] == [
        *[("user", "a"), ("assistant", "b")],
        *[("user", "c"), ("assistant", "d")],
    ]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(row):
    assert json.dumps(given_back(row)) == json.dumps(row)


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)

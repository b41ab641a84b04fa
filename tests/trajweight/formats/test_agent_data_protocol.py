"""Laws of the Agent Data Protocol: actions are the agent's turns, observations answer them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

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
from trajweight.formats.agent_data_protocol import AgentDataProtocol

FORM = AgentDataProtocol()
ROWS = sample("agent_data_protocol.jsonl")


def says(text: str, source: str = "user", **more: Any) -> dict[str, Any]:
    return {"class_": "text_observation", "content": text, "source": source, **more}


def calls(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"class_": "api_action", "function": name, "kwargs": {}, **more}


def row(*steps: Any, **more: Any) -> dict[str, Any]:
    """A row with these steps between a question and an answer."""
    done = {"class_": "message_action", "content": "done"}
    return {"id": "r", "content": [says("go"), *steps, done], "details": {}, **more}


def turns(*steps: Any) -> list[dict[str, Any]]:
    return messages(row(*steps))[1:-1]


def test_the_samples_are_of_this_format_and_of_no_other():
    assert detected(ROWS) == FORM.name
    assert {tuple(names_of(each)) for each in ROWS} == {(FORM.name,)}


def test_code_is_a_call_that_runs_it_and_its_output_is_the_result():
    assert messages(ROWS[0]) == [
        {"role": "user", "content": "How many jars stand in the shed?"},
        {
            "role": "assistant",
            "content": "I count the files.",
            "tool_calls": [
                {
                    "id": "call_000001",
                    "name": "execute_bash",
                    "arguments": {"command": "ls shed | wc -l"},
                }
            ],
        },
        {"role": "tool", "content": "14", "tool_call_id": "call_000001"},
        {
            "role": "assistant",
            "content": "There are 14 jars.",
            "reasoning": "One file is one jar.",
        },
    ]


def test_calls_made_at_once_are_one_turn_and_pages_are_their_text():
    found = told(ROWS[1])

    assert [turn["role"] for turn in found.messages] == [
        *("user", "assistant", "tool", "tool", "assistant")
    ]
    assert [call["id"] for call in found.messages[1]["tool_calls"]] == ["a", "b"]
    assert found.messages[3]["content"] == "URL: http://shed.example/orders\n[1] text 'ordered'"
    assert found.messages[4]["content"] == "All done.\n\nBoth are on their way."
    assert found.remarks == ("pictures of web pages are not told, in steps 5",)


def test_an_environment_that_answers_no_call_is_the_other_side():
    assert [turn["role"] for turn in messages(ROWS[2])] == [*("user", "assistant") * 2]


@pytest.mark.parametrize(
    ("language", "name", "arguments"),
    [
        ("python", "execute_ipython_cell", {"code": "x"}),
        ("sh", "execute_bash", {"command": "x"}),
        ("Bash", "execute_bash", {"command": "x"}),
        ("rust", "execute_code", {"language": "rust", "content": "x"}),
    ],
)
def test_the_call_is_named_by_the_language(language, name, arguments):
    (turn,) = turns({"class_": "code_action", "language": language, "content": "x"})

    assert turn["tool_calls"] == [{"id": "", "name": name, "arguments": arguments}]


def test_results_without_ids_answer_the_calls_before_them_in_order():
    found = turns(calls("f"), calls("g"), says("1"), says("2"), says("3", "environment"))

    assert [turn["role"] for turn in found] == ["assistant", "tool", "tool", "user"]
    assert [call["name"] for call in found[0]["tool_calls"]] == ["f", "g"]


def test_a_result_out_of_order_answers_the_call_it_names():
    found = turns(
        calls("f", tool_call_id="1"),
        calls("g", tool_call_id="2"),
        says("b", "environment", tool_call_id="2"),
        says("a", "environment", tool_call_id="1"),
    )

    assert [turn.get("tool_call_id") for turn in found[1:]] == ["2", "1"]


def test_what_follows_an_answered_call_is_no_result():
    found = turns(
        calls("f", tool_call_id="1"),
        says("a", "environment", tool_call_id="1"),
        says("b", "environment"),
    )

    assert [turn["role"] for turn in found] == ["assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("source", "role"), [("user", "user"), ("agent", "assistant"), ("environment", "user")]
)
def test_a_text_is_of_its_source(source, role):
    assert turns(says("x", source)) == [{"role": role, "content": "x"}]


def test_the_first_text_of_the_system_is_the_system_turn():
    value = row()
    value["content"].insert(0, says("Be kind.", "environment", name="system"))

    assert messages(value)[0] == {"role": "system", "content": "Be kind."}


def test_json_is_told_as_json():
    step = {"class_": "json_observation", "content": {"a": 1}, "source": "environment"}

    assert turns(step)[0]["content"] == '{"a":1}'


@pytest.mark.parametrize(
    ("rewards", "reward", "remark"),
    [
        ([0.25, None, 1], 1.25, ()),
        ([None, None, None], None, ()),
        ([True, -2.0, 0], -1.0, ()),
        ([1.0, "2", 0], None, ("the rewards of its steps are not all numbers",)),
        ([1e308, 1e308, 0], None, ("the rewards of its steps are too great to be added",)),
    ],
)
def test_the_reward_is_the_sum_of_all_steps(rewards, reward, remark):
    value = row(says("x"))
    for step, given_reward in zip(value["content"], rewards, strict=True):
        step["reward"] = given_reward

    found = told(value)

    assert found.said.get("reward", (None,))[0] == reward
    assert tuple(each.partition(";")[0] for each in found.remarks) == remark


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("x", "step 2 is text, not an object"),
        ({"class_": "dance"}, "step 2 is of class 'dance'"),
        ({"class_": 5}, "step 2 is of class a number"),
        ({"class_": "image_observation", "content": "a.png"}, "step 2 is an image_observation"),
        (calls(name=""), "step 2 is a call without a function name"),
        ({"class_": "code_action", "content": "x"}, "whose language is null"),
        ({"class_": "message_action", "content": 5}, "step 2 has a number as content"),
        ({"class_": "web_observation"}, "step 2 is a web page without text"),
    ],
)
def test_a_step_that_cannot_be_understood_is_named(step, why):
    assert why in reason(row(step), FORM)


@pytest.mark.parametrize("value", ROWS)
def test_a_row_is_given_back_whole(value):
    assert given_back(value) == value


@given(broken(ROWS))
def test_a_broken_row_is_told_or_refused(value):
    hold(FORM, value)

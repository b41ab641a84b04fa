"""Laws of tau2-bench results: the agent's side is the conversation, and no other is trained on."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import SAMPLES, broken, detected, given_back, hold, reason, told
from trajweight.formats import Item, UnusableError, format_of_value
from trajweight.formats.tau2 import Tau2
from trajweight.reading import read_trajectories
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

FORM = Tau2()
DOCUMENT = json.loads((SAMPLES / "tau2.json").read_text("utf-8"))
INDEX = json.loads((SAMPLES / "tau2_folder" / "results.json").read_text("utf-8"))
ALONE = DOCUMENT["simulations"][0]
POLICY = "Help the keeper. Never switch the lamp yourself."


def items(value: Any) -> list[Item]:
    return list(FORM.read([Record(1, value)], {}))


def simulation(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task_id": "t", "reward_info": None, "trial": 0, "messages": [*messages], **more}


def test_a_document_is_known_by_its_simulations_and_each_is_a_row():
    found = items(DOCUMENT)

    assert detected([DOCUMENT]) == "tau2"
    assert [item.value for item in found] == DOCUMENT["simulations"]
    assert [item.number for item in found] == [1, 2]
    assert all(item.envelope == {**DOCUMENT, "simulations": None} for item in found)


def test_the_agent_sees_the_policy_the_user_and_its_own_tools_alone():
    canonical = FORM.canonical(items(DOCUMENT)[0])

    assert canonical.messages == [
        {"role": "system", "content": POLICY},
        {"role": "assistant", "content": "Hi! How can I help you today?"},
        {"role": "user", "content": "I am Ada, and my lamp is dark."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "a1", "name": "find_keeper", "arguments": {"name": "Ada"}}],
        },
        {"role": "tool", "content": '{"keeper": "Ada", "lamp": "L7"}', "tool_call_id": "a1"},
        {"role": "assistant", "content": "Please switch the lamp off and on."},
        {"role": "user", "content": "It shines again. ###STOP###"},
    ]
    assert canonical.remarks == (
        "a tool of the simulated user is not seen by the agent and left out: messages 6, 7, 7",
    )


def test_no_call_of_the_simulated_user_is_ever_a_call_of_the_agent():
    call = {"id": "u", "name": "switch_lamp", "arguments": {}, "requestor": "user"}
    row = simulation(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "tool_calls": [call]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "I switch it.", "tool_calls": [call]},
        {"role": "tool", "id": "u", "content": "on", "requestor": "user"},
        {"role": "assistant", "content": "Good."},
    )

    found = told(row, FORM)

    assert [turn["content"] for turn in found.messages] == ["Hi", "Hello", "Good."]
    assert not any("tool_calls" in turn for turn in found.messages)
    assert given_back(row, FORM) == row


def test_the_scalars_are_those_of_the_schema():
    said = [FORM.canonical(item).said for item in items(DOCUMENT)]

    assert [one["source"][0] for one in said] == ["heron-2", "heron-2"]
    assert [one["success"][0] for one in said] == [True, False]
    assert FORM.fields["reward"] == ("reward_info.reward",)
    assert FORM.fields["task"] == ("task_id",)


def test_an_unusual_end_is_told():
    assert FORM.canonical(items(DOCUMENT)[1]).remarks == ("termination_reason is max_steps",)


def test_the_tools_of_the_document_are_told_as_functions():
    (tool,) = FORM.canonical(items(DOCUMENT)[0]).tools

    assert tool["function"]["name"] == "find_keeper"
    assert tool["function"]["parameters"]["properties"] == {"name": {"type": "string"}}


def test_a_simulation_by_itself_is_a_row_without_its_policy():
    assert detected([ALONE]) == "tau2"
    (item,) = items(ALONE)
    assert item.value is ALONE

    canonical = FORM.canonical(item)

    assert canonical.messages == FORM.canonical(items(DOCUMENT)[0]).messages[1:]
    assert given_back(ALONE, FORM) == ALONE


def test_the_policy_of_a_simulation_comes_before_that_of_the_document():
    document = deepcopy(DOCUMENT)
    document["simulations"][0]["policy"] = "Be brief."

    assert FORM.canonical(items(document)[0]).messages[0]["content"] == "Be brief."


def test_a_system_turn_of_its_own_keeps_the_policy_out():
    document = deepcopy(DOCUMENT)
    document["simulations"][0]["messages"].insert(0, {"role": "system", "content": "Mine."})

    canonical = FORM.canonical(items(document)[0])

    assert [turn["role"] for turn in canonical.messages].count("system") == 1


@pytest.mark.parametrize("item", items(DOCUMENT))
def test_a_simulation_is_given_back_whole(item):
    columns = conversation_columns(item.value, FORM.canonical(item), FORM)

    assert original_row(columns) == item.value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (INDEX, "no trajectories here: this is the index of a results folder"),
        ({**DOCUMENT, "simulations": []}, "no trajectories here: simulations is empty"),
        ({**INDEX, "simulations": None}, "no trajectories here: this is the index"),
    ],
)
def test_results_without_simulations_say_that_no_trajectory_is_in_them(value, why):
    (item,) = items(value)

    assert detected([value]) == "tau2"
    with pytest.raises(UnusableError, match=why):
        FORM.canonical(item)


def test_tasks_alone_are_no_results():
    assert FORM.lacks({"tasks": DOCUMENT["tasks"]}) == ("a list simulations",)
    assert format_of_value(DOCUMENT["tasks"]) is None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (simulation(messages=None, ticks=[{"tick_id": 0}]), "the simulation is full duplex"),
        (simulation({"role": "assistant", "content": "U0=", "is_audio": True}), "is speech"),
        (simulation({"role": "boss", "content": "x"}), "message 1 has role 'boss'"),
        (simulation(5), "message 1 is a number"),  # type: ignore[arg-type]
        (simulation(), "messages is empty"),
    ],
)
def test_a_simulation_that_is_no_conversation_of_text_says_why(row, why):
    assert why in reason({**simulation(), **row}, FORM)


def test_an_error_of_a_tool_is_told():
    result = {"role": "tool", "id": "1", "content": "no", "requestor": "assistant", "error": True}
    call = {"id": "1", "name": "f", "arguments": {}, "requestor": "assistant"}
    row = simulation({"role": "assistant", "content": None, "tool_calls": [call]}, result)

    assert told(row, FORM).remarks == ("error is set on the results in messages 2",)


def test_reasoning_that_the_model_gave_is_told():
    raw = {"message": {"reasoning_content": "Hm."}}
    row = simulation({"role": "assistant", "content": "Hi", "raw_data": raw})

    assert told(row, FORM).messages[0]["reasoning"] == "Hm."


@pytest.mark.parametrize("name", ["tau2.json", "tau2_folder", "tau2_folder/results.json"])
def test_a_file_and_a_folder_tell_the_same(name):
    reading = read_trajectories([SAMPLES / name])

    table = reading.table
    assert not reading.rejected
    assert table["traj_id"].to_list() == ["sim-1", "sim-2"]
    assert table["task_id"].to_list() == ["dark_lamp", "lost_key"]
    assert table["source"].to_list() == ["heron-2", "heron-2"]
    assert table["reward"].to_list() == [1.0, 0.0]
    assert table["success"].to_list() == [True, False]
    assert table["n_tool_calls"].to_list() == [1, 0]
    assert [original_row(row) for row in table.iter_rows(named=True)] == DOCUMENT["simulations"]


@given(broken([DOCUMENT, ALONE, INDEX]))
def test_a_broken_document_is_told_or_refused(value):
    hold(FORM, value)

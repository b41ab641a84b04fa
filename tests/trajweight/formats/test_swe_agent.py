"""Laws of SWE-agent trajectories: the history is the conversation, demonstrations are not in it."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import (
    SAMPLES,
    broken,
    detected,
    form_of,
    given_back,
    hold,
    reason,
    told,
)
from trajweight.formats import Item, format_of_value
from trajweight.formats.swe_agent import SweAgent
from trajweight.reading import original_row, read_trajectories
from trajweight.records import Record

FORM = SweAgent()
DOCUMENT = json.loads((SAMPLES / "swe_agent.traj").read_text("utf-8"))


def items(value: Any) -> list[Item]:
    return list(FORM.read([Record(1, value)], {}))


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, "agent": "main", **more}


ASK = turn("user", "Mend it.")
REPLY = turn("assistant", "Mended.")


def history(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"history": [*turns], **more}


def test_the_sample_is_told_turn_by_turn():
    found = told(DOCUMENT)

    assert detected([DOCUMENT]) == form_of(DOCUMENT).name == "swe-agent"
    assert found.messages == [
        {"role": "system", "content": "You mend programs."},
        {"role": "user", "content": "The sum is off by one."},
        {
            "role": "assistant",
            "content": "I look at the file.",
            "tool_calls": [
                {"id": "call_1", "name": "bash", "arguments": {"command": "cat sum.py"}}
            ],
            "reasoning": "A small file.",
        },
        {"role": "tool", "content": "def total(a, b): return a + b + 1", "tool_call_id": "call_1"},
        {
            "role": "assistant",
            "content": "The 1 must go.",
            "tool_calls": [{"id": "call_2", "name": "submit", "arguments": {}}],
        },
        {"role": "tool", "content": "submitted", "tool_call_id": "call_2"},
    ]
    assert found.remarks == ("demonstrations are left out, turns: 1",)
    assert found.said["task"][0] == "quill__abacus-12"
    assert found.said["source"][0] == "heron-2"


def test_a_row_is_given_back_whole():
    assert given_back(DOCUMENT) == DOCUMENT


@pytest.mark.parametrize(
    "row",
    [
        history(ASK, REPLY),
        history({"role": "user", "content": "a", "message_type": "observation"}, REPLY),
        history({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
        | {"trajectory": []},
    ],
)
def test_a_history_with_its_own_keys_or_a_trajectory_beside_is_known(row):
    assert form_of(row).name == "swe-agent"


@pytest.mark.parametrize(
    "row",
    [
        history({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
        history(trajectory=[{"action": "ls", "observation": "x"}]),
        {"trajectory": [{"action": "ls", "observation": "x", "response": "ls"}]},
        history(["a", "b"], trajectory=[]),
    ],
)
def test_other_histories_are_not(row):
    found = format_of_value(row)
    assert found is None or found.name != "swe-agent"


@pytest.mark.parametrize(
    "demonstration", [{"is_demo": True}, {"message_type": "demonstration", "is_demo": None}]
)
def test_demonstrations_are_counted_and_not_told(demonstration):
    shown = [turn("user", "u", **demonstration), turn("assistant", "a", **demonstration)]

    found = told(history(turn("system", "s"), *shown, ASK, REPLY))

    assert [message["content"] for message in found.messages] == ["s", "Mend it.", "Mended."]
    assert found.remarks == ("demonstrations are left out, turns: 2",)


def test_a_history_of_demonstrations_alone_is_refused():
    assert "nothing to train on" in reason(history(turn("assistant", "a", is_demo=True)))


def test_turns_of_another_agent_are_left_out_and_told():
    other = {**REPLY, "agent": "helper", "content": "x"}

    found = told(history(ASK, other, other, REPLY))

    assert [message["content"] for message in found.messages] == ["Mend it.", "Mended."]
    assert found.remarks == ("another agent than main is left out: helper 2",)


def test_a_result_of_several_calls_answers_the_first_and_is_told():
    found = told(history(ASK, REPLY, turn("tool", "done", tool_call_ids=["a", "b"])))

    assert found.messages[2] == {"role": "tool", "content": "done", "tool_call_id": "a"}
    assert found.remarks == ("one result is for several calls, in turns 3",)


@pytest.mark.parametrize(
    ("environment", "task"),
    [("owner__thing-7", "owner__thing-7"), ("swe_main", None), ("main", None), (None, None)],
)
def test_an_environment_named_after_the_instance_is_the_task(environment, task):
    found = told(history(ASK, REPLY, environment=environment)).said.get("task")

    assert (found and found[0]) == task


@pytest.mark.parametrize("config", ["not json", 5, None, [], {"problem_statement": 3}, "{}"])
def test_a_configuration_that_says_nothing_is_no_fault(config):
    assert told(history(ASK, REPLY, replay_config=config)).said == {}


def test_a_run_that_did_not_submit_says_how_it_ended():
    row = history(ASK, REPLY, info={"exit_status": "exit_cost", "submission": None})

    assert told(row).remarks == ("exit_status is exit_cost",)


def attempts(**info: Any) -> dict[str, Any]:
    """What a retry agent writes: its attempts, and the best of them once more."""
    tries = [history(ASK, turn("assistant", f"try {n}"), info={}) for n in range(3)]
    return {**deepcopy(tries[1]), "attempts": tries, "info": info}


def test_the_attempts_of_a_retry_agent_are_rows_of_one_group_each_once():
    found = items(attempts(best_attempt_idx=1))

    said = [FORM.canonical(item) for item in found]

    assert [one.messages[1]["content"] for one in said] == ["try 1", "try 0", "try 2"]
    assert len({one.said["group"][0] for one in said}) == 1
    assert [item.envelope is None for item in found] == [True, False, False]


def test_attempts_without_a_best_one_are_rows_by_themselves():
    document = {"attempts": attempts()["attempts"]}

    assert detected([document]) == "swe-agent"
    assert [FORM.canonical(item).messages[1]["content"] for item in items(document)] == [
        *("try 0", "try 1", "try 2")
    ]


def test_attempts_that_no_reading_took_apart_are_told():
    assert told(attempts(best_attempt_idx=1)).remarks == (
        "the attempts beside the history are not read",
    )


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (turn("boss", "x"), "turn 2 has role 'boss'"),
        (turn("user", [{"type": "image_url"}]), "turn 2 has a content part of type 'image_url'"),
        (turn("user", {"a": 1}), "turn 2 has a content part of type an object"),
        (turn("assistant", "x", tool_calls={"a": 1}), "turn 2 has an object as tool_calls"),
        ("text", "turn 2 is text, not an object"),
    ],
)
def test_a_turn_that_cannot_be_understood_is_named(bad, why):
    assert why in reason(history(ASK, bad, REPLY))


def test_the_sample_file_is_read_and_given_back():
    reading = read_trajectories([SAMPLES / "swe_agent.traj"])

    (row,) = reading.table.iter_rows(named=True)
    assert (row["source"], row["task_id"]) == ("heron-2", "quill__abacus-12")
    assert row["n_tool_calls"] == 2
    assert original_row(row) == DOCUMENT


@given(broken([DOCUMENT, attempts(best_attempt_idx=1)]))
def test_a_broken_document_is_told_or_refused(value):
    hold(FORM, value)

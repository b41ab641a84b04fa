"""Laws of small sets of dialogues, a form each: MINT, ToolTalk, CaSiNo, SGD; and of task files."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import (
    SAMPLES,
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
from trajweight.fields import Teller, paths_of
from trajweight.formats import format_named


def document(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text("utf-8"))


MINT = sample("mint.jsonl")
TOOLTALK = [document("tooltalk.json")]
CASINO = document("casino.json")
SGD = document("schema_guided.json")
TASKS = sample("bfcl_tasks.jsonl")
ROWS = {"mint": MINT, "tooltalk": TOOLTALK, "casino": CASINO, "schema-guided": SGD}


def scalars(name: str, row: Any) -> dict[str, Any]:
    form = format_named(name)
    found = Teller(row, paths_of(form.fields, {}), told(row), mapped={}).scalars()
    return {what: each.value for what, each in found._asdict().items() if each.value is not None}


@pytest.mark.parametrize("name", [*ROWS, "bfcl-tasks"])
def test_the_samples_are_of_their_format_and_of_no_other(name):
    rows = ROWS.get(name, TASKS)

    assert detected(rows) == name
    assert {tuple(names_of(row)) for row in rows} == {(name,)}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_given_back_whole(name):
    for row in ROWS[name]:
        assert given_back(row) == row


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_row_is_told_or_refused(name):
    @given(broken(ROWS[name]))
    def law(value: Any) -> None:
        hold(format_named(name), value)

    law()


def test_mint_says_its_task_and_whether_it_was_solved():
    assert [turn["role"] for turn in messages(MINT[0])] == ["user", "assistant"] * 2
    assert scalars("mint", MINT[0]) == {"task": "cup-sill", "success": True}
    assert scalars("mint", MINT[1]) == {"task": "box", "success": False}


def test_tooltalk_calls_one_after_another_before_the_assistant_speaks():
    called = [
        {"id": "call_2.1", "name": "GetLamp", "arguments": {"room": "hall"}},
        {"id": "call_2.2", "name": "SetLamp", "arguments": {"room": "hall", "level": 20}},
    ]

    assert messages(TOOLTALK[0]) == [
        {"role": "user", "content": "Dim the lamp in the hall."},
        {"role": "assistant", "content": "", "tool_calls": called[:1]},
        {"role": "tool", "content": '{"level":80}', "tool_call_id": "call_2.1"},
        {"role": "assistant", "content": "", "tool_calls": called[1:]},
        {"role": "tool", "content": "lamp is slow", "tool_call_id": "call_2.2"},
        {"role": "assistant", "content": "It is at 20 percent now."},
        {"role": "user", "content": "Thanks."},
    ]
    assert scalars("tooltalk", TOOLTALK[0]) == {"traj_id": "lamp-0", "task": "Lamp-Set-0"}


def test_tooltalk_predictions_are_kept_and_said():
    row = copy.deepcopy(TOOLTALK[0])
    row["conversation"][1]["predictions"] = [{"role": "assistant", "text": "Hm."}]

    assert told(row).remarks == ("turns 2 have predictions, which are kept, not read",)


def test_casino_learns_from_the_one_who_answers():
    assert messages(CASINO[0]) == [
        {"role": "user", "content": "I need firewood."},
        {"role": "assistant", "content": "Take two, I take the water."},
        {
            "role": "user",
            "content": "Submit-Deal\n"
            '{"issue2youget":{"Firewood":"2"},"issue2theyget":{"Water":"3"}}',
        },
        {"role": "assistant", "content": 'Accept-Deal\n{"data":"accept_deal"}'},
    ]
    assert scalars("casino", CASINO[0]) == {"traj_id": "4", "task": "4", "reward": 19.0}


def test_schema_guided_calls_a_service_before_the_system_speaks():
    assert messages(SGD[0])[:4] == [
        {"role": "user", "content": "Rent me a boat for two."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_2.1", "name": "RentBoat", "arguments": {"seats": "2"}}],
        },
        {"role": "tool", "content": '[{"boat":"Heron"}]', "tool_call_id": "call_2.1"},
        {"role": "assistant", "content": "The Heron is yours."},
    ]
    assert scalars("schema-guided", SGD[0]) == {"traj_id": "9_00001", "task": "9_00001"}


@pytest.mark.parametrize(
    ("row", "what"), [(TASKS[0], "questions"), (TASKS[1], "reference answers")]
)
def test_a_task_file_says_that_it_holds_no_trajectories(row, what):
    assert reason(row).startswith(f"no trajectories here: a BFCL task file holds {what}")


@given(broken(TASKS))
def test_a_broken_task_is_refused_too(value):
    assert hold(format_named("bfcl-tasks"), value) == 0


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("mint", {"state": {"history": []}}, "state.history is empty"),
        ("tooltalk", {"conversation": [{"role": "user"}]}, "turn 1 is an object without a role"),
        ("tooltalk", {"conversation": [{"role": "boss", "text": "x"}]}, "without a role of user"),
        ("casino", {"chat_logs": [{"text": "x"}]}, "turn 1 has no text and id"),
        ("casino", {"chat_logs": [{"text": "x", "id": "a"}]}, "nothing to train on"),
        ("schema-guided", {"turns": [{"speaker": "X", "utterance": ""}]}, "without a speaker"),
    ],
)
def test_a_turn_that_cannot_be_understood_is_named(name, change, why):
    assert why in reason({**ROWS[name][0], **change}, format_named(name))

"""Laws of Harbor ATIF: steps become turns, copies are only shown, sub-agents are rows too."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import (
    SAMPLES,
    broken,
    detected,
    form_of,
    hold,
    messages,
    reason,
    told,
)
from trajweight.formats.atif import Atif
from trajweight.reading import read_trajectories
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

if TYPE_CHECKING:
    from trajweight.formats import Item

FORM = Atif()
DOCUMENT = json.loads((SAMPLES / "atif.json").read_text("utf-8"))
(PART,) = DOCUMENT["subagent_trajectories"]


def items(value: Any) -> list[Item]:
    return list(FORM.read([Record(1, value)], {}))


def run(*steps: dict[str, Any], version: str = "ATIF-v1.6", **more: Any) -> dict[str, Any]:
    return {"schema_version": version, "agent": {"name": "a"}, "steps": [*steps], **more}


def step(source: str, message: Any, **more: Any) -> dict[str, Any]:
    return {"source": source, "message": message, **more}


ASK = step("user", "Hi")
REPLY = step("agent", "Hello")


@pytest.mark.parametrize("version", ["ATIF-v1.5", "ATIF-v1.6", "ATIF-v1.7", "ATIF-v1.8"])
def test_every_version_is_known_by_its_name(version):
    row = run(ASK, REPLY, version=version)

    assert detected([row]) == form_of(row).name == "atif"
    assert told(row).remarks == ()


def test_a_version_that_is_not_known_is_read_and_told():
    assert told(run(REPLY, version="ATIF-v2.0")).remarks == (
        "schema_version is ATIF-v2.0; it is read as ATIF-v1.7",
    )


def test_the_sample_is_told_turn_by_turn():
    found = FORM.canonical(items(DOCUMENT)[0])

    assert found.messages == [
        {"role": "system", "content": "You work in a terminal of the Quillbrook library."},
        {"role": "user", "content": "Count the books in shelves.txt."},
        {
            "role": "assistant",
            "content": "I read the file.",
            "tool_calls": [
                {"id": "c1", "name": "bash", "arguments": {"command": "cat shelves.txt"}},
                {"id": "c2", "name": "bash", "arguments": {"command": "wc -l shelves.txt"}},
            ],
            "reasoning": "The file is small.",
        },
        {"role": "tool", "content": "3 shelves.txt", "tool_call_id": "c2"},
        {"role": "tool", "content": "atlas\nbestiary\ncookbook", "tool_call_id": "c1"},
        {
            "role": "assistant",
            "content": "Someone should check the second room.",
            "tool_calls": [
                {"id": "c3", "name": "delegate", "arguments": {"task": "count room two"}}
            ],
        },
        {"role": "tool", "content": "Room two holds 2 books.", "tool_call_id": "c3"},
        {"role": "assistant", "content": "There are 5 books."},
    ]
    assert found.tools == DOCUMENT["agent"]["tool_definitions"]
    assert found.remarks == ("work for sub-agents is handed to counter-1",)


def test_a_sub_agent_is_a_row_of_its_own_in_the_group_of_its_run():
    root, part = items(DOCUMENT)

    canonical = FORM.canonical(part)

    assert part.value == PART
    assert part.envelope == {**DOCUMENT, "subagent_trajectories": None}
    assert canonical.said["group"][0] == FORM.canonical(root).said["group"][0] == "session-7"
    assert canonical.messages == [
        {"role": "user", "content": "Count room two."},
        {
            "role": "assistant",
            "content": "There are 5 books in all, I was told.",
            "untrained": True,
        },
        {"role": "assistant", "content": "ls room-two"},
        {"role": "user", "content": "dune.txt\nemma.txt"},
        {"role": "assistant", "content": "Room two holds 2 books."},
    ]
    assert canonical.remarks == ("copied context is shown and not trained on: steps 2",)


def test_sub_agents_of_sub_agents_are_rows_too():
    document = deepcopy(DOCUMENT)
    document["subagent_trajectories"][0]["subagent_trajectories"] = [
        {**PART, "trajectory_id": "deep"}
    ]

    found = items(document)

    assert [item.value["trajectory_id"] for item in found] == ["root-7", "counter-1", "deep"]
    assert {FORM.canonical(item).said["group"][0] for item in found} == {"session-7"}


def test_a_run_without_a_name_still_ties_its_parts():
    document = {k: v for k, v in DOCUMENT.items() if k not in ("session_id", "trajectory_id")}

    groups = [FORM.canonical(item).said["group"][0] for item in items(document)]
    others = [FORM.canonical(item).said["group"][0] for item in items({**document, "notes": "x"})]

    assert groups[0] == groups[1]
    assert groups[0] != others[0]


def test_every_part_is_given_back_whole():
    for item in items(DOCUMENT):
        columns = conversation_columns(item.value, FORM.canonical(item), FORM)
        assert original_row(columns) == item.value


@pytest.mark.parametrize("said", [{"is_copied_context": True}, {"llm_call_count": 0}])
def test_what_the_model_did_not_write_here_is_shown_and_not_trained_on(said):
    found = told(run(ASK, step("agent", "Copy", **said), ASK, REPLY))

    assert [turn.get("untrained", False) for turn in found.messages] == [False, True, False, False]
    assert any("shown and not trained on: steps 2" in remark for remark in found.remarks)


def test_a_run_of_copies_alone_is_refused():
    assert "only shown" in reason(run(ASK, step("agent", "Copy", is_copied_context=True)))


def test_a_result_without_a_call_is_said_by_the_user_and_one_of_calls_by_a_tool():
    result = {"results": [{"content": "out"}]}
    call = {"tool_call_id": "1", "function_name": "f", "arguments": {}}

    acted = messages(run(ASK, step("agent", "ls", observation=result)))
    called = messages(run(ASK, step("agent", "", tool_calls=[call], observation=result)))

    assert acted[2] == {"role": "user", "content": "out"}
    assert called[2] == {"role": "tool", "content": "out"}


def test_a_system_step_that_only_hands_over_is_no_turn():
    reference = {"results": [{"subagent_trajectory_ref": [{"trajectory_path": "part.json"}]}]}

    found = told(run(ASK, step("system", "", observation=reference), REPLY))

    assert [turn["role"] for turn in found.messages] == ["user", "assistant"]
    assert found.remarks == ("work for sub-agents is handed to part.json",)


def test_a_run_that_goes_on_elsewhere_says_where():
    assert told(run(ASK, REPLY, continued_trajectory_ref="b.json")).remarks == (
        "continued_trajectory_ref is b.json: the run goes on in that file",
    )


def test_sub_agents_that_no_reading_took_apart_are_told():
    assert "subagent_trajectories is kept" in told(DOCUMENT).remarks[-1]
    assert (
        "1 of it not read"
        in FORM.canonical(items({**DOCUMENT, "subagent_trajectories": [PART, 5]})[0]).remarks[-1]
    )


@pytest.mark.parametrize(
    ("agent", "steps", "source"),
    [
        ({"name": "a", "model_name": "m"}, [REPLY], None),
        ({"name": "a"}, [{**REPLY, "model_name": "n"}], "n"),
        ({"name": "a"}, [REPLY], None),
    ],
)
def test_a_model_named_by_a_step_is_the_source_where_the_agent_names_none(agent, steps, source):
    found = told({**run(*steps), "agent": agent}).said.get("source")

    assert (found and found[0]) == source
    assert FORM.fields["source"] == ("agent.model_name", "agent.name")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (step("boss", "x"), "step 1 has source 'boss'; known sources are system, user, agent"),
        (step("user", [{"type": "image"}]), "step 1 has a content part of type 'image'"),
        (step("agent", "x", tool_calls=5), "step 1 has tool_calls that are no list of objects"),
        (step("agent", "x", tool_calls=[{}]), "step 1, tool call 1 has no function name"),
        (step("agent", "x", observation=[]), "step 1 has an observation without a list of results"),
        ("text", "step 1 is text, not an object"),
    ],
)
def test_a_step_that_cannot_be_understood_is_named(bad, why):
    assert why in reason(run(bad, REPLY))


def test_a_part_without_steps_is_refused():
    document = {**DOCUMENT, "subagent_trajectories": [{"trajectory_id": "x"}]}

    (_, part) = items(document)

    assert hold(FORM, document) == 1
    assert part.value == {"trajectory_id": "x"}


def test_the_sample_file_is_read_with_its_sub_agent_in_one_group():
    reading = read_trajectories([SAMPLES / "atif.json"])

    table = reading.table
    assert table["traj_id"].to_list() == ["root-7", "counter-1"]
    assert table["source"].to_list() == ["heron-2", "wren-1"]
    assert table["group_id"].to_list() == ["session-7", "session-7"]
    assert [original_row(row) for row in table.iter_rows(named=True)] == [DOCUMENT, PART]


@given(broken([DOCUMENT, run(ASK, REPLY)]))
def test_a_broken_document_is_told_or_refused(value):
    hold(FORM, value)

"""Laws of OpenHands: events become turns, whether in a row, in a list, or one a line."""

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
    sample,
    told,
)
from trajweight.formats import Item, UnusableError, format_of_value
from trajweight.formats.openhands import OpenHands
from trajweight.jsontext import NonFinite
from trajweight.reading import read_trajectories
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

FORM = OpenHands()
ROWS = sample("openhands.jsonl")
EVENTS = json.loads((SAMPLES / "openhands_events.json").read_text("utf-8"))
SDK = sample("openhands_sdk.jsonl")


def items(values: list[Any]) -> list[Item]:
    return list(FORM.read([Record(n, value) for n, value in enumerate(values, 1)], {}))


def action(name: str, number: int = 0, source: str = "agent", **args: Any) -> dict[str, Any]:
    return {"id": number, "source": source, "action": name, "args": args}


def result(name: str, content: Any, cause: int | None = None, **more: Any) -> dict[str, Any]:
    return {"source": "environment", "observation": name, "content": content, **more} | (
        {} if cause is None else {"cause": cause}
    )


ASK = action("message", source="user", content="Hi")
REPLY = action("message", content="Hello")


# Rows of an evaluation


def test_a_row_with_the_model_s_own_responses_is_told_from_them():
    found = told(ROWS[0])

    assert detected(ROWS) == "openhands"
    assert found.messages == [
        {"role": "system", "content": "You are a helpful agent."},
        {"role": "user", "content": "Say what notes.md is about."},
        {
            "role": "assistant",
            "content": "I look around.",
            "tool_calls": [
                {"id": "t1", "name": "execute_bash", "arguments": {"command": "ls"}},
                {"id": "t2", "name": "execute_bash", "arguments": {"command": "cat notes.md"}},
            ],
        },
        {"role": "tool", "content": "notes.md", "tool_call_id": "t1"},
        {"role": "tool", "content": "The mill turns at dawn.", "tool_call_id": "t2"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "t3", "name": "finish", "arguments": {"message": "It is about a mill."}}
            ],
        },
    ]
    assert [tool["function"]["name"] for tool in found.tools] == ["execute_bash"]
    assert found.remarks == ("no turn is told by these events: agent_state_changed 1",)


def test_pairs_of_action_and_observation_are_told_in_their_order():
    found = told(ROWS[1])

    assert found.messages == [
        {"role": "user", "content": "Count the wheels."},
        {
            "role": "assistant",
            "content": "I list them.",
            "tool_calls": [{"id": "1", "name": "run", "arguments": {"command": "ls wheels"}}],
        },
        {"role": "tool", "content": "big small", "tool_call_id": "1"},
        {"role": "assistant", "content": "There are two wheels."},
    ]
    assert found.remarks == (
        "no turn is told by these events: null 2",
        "calls are told from actions: events have no tool_call_metadata",
    )


@pytest.mark.parametrize("row", [*ROWS, EVENTS, SDK])
def test_a_row_is_given_back_whole(row):
    assert given_back(row, FORM) == row


def test_the_scalars_stand_where_evaluations_put_them():
    assert "test_result.report.resolved" in FORM.fields["success"]
    assert "metadata.llm_config.model" in FORM.fields["source"]
    assert told({**ROWS[0], "test_result": True}).said["success"] == (True, "test_result")
    assert "success" not in told(ROWS[0]).said


def test_a_history_that_is_text_is_decoded():
    row = {**ROWS[0], "history": json.dumps(ROWS[0]["history"])}

    assert form_of(row).name == "openhands"
    assert told(row).messages == told(ROWS[0]).messages


@pytest.mark.parametrize("key", ["events", "trajectory", "items", "history"])
def test_events_are_found_under_the_names_that_exports_give_them(key):
    assert told({key: [ASK, REPLY]}).messages == told([ASK, REPLY], FORM).messages


@pytest.mark.parametrize("history", [None, []])
def test_a_row_that_failed_says_how(history):
    row = {"instance_id": "a", "history": history, "test_result": {}, "error": "out of memory"}

    assert form_of(row).name == "openhands"
    assert reason(row) == "history is empty: the run ended in an error: out of memory"


def test_the_instruction_is_the_task_where_no_event_tells_it():
    row = {"instance_id": "a", "instruction": "Do it.", "history": [action("system"), REPLY]}

    found = told(row)

    assert [turn["content"] for turn in found.messages] == ["", "Do it.", "Hello"]
    assert "the first user turn is the field instruction" in found.remarks[-1]


def test_an_error_of_a_row_that_has_a_conversation_is_told():
    row = {"instance_id": "a", "history": [ASK, REPLY], "error": "late", "test_result": {}}

    assert told(row).remarks == ("error is late",)


# Files of events


def test_events_one_a_record_are_one_row_of_the_whole_file():
    (item,) = items(EVENTS)

    assert detected(EVENTS) == "openhands"
    assert (item.value, item.number, item.numbers) == (EVENTS, 1, (1, 2, 3, 4, 5, 6))
    assert FORM.canonical(item).messages == [
        {"role": "user", "content": "Which fish is in pond.txt?"},
        {
            "role": "assistant",
            "content": "I open it.",
            "tool_calls": [
                {
                    "id": "3",
                    "name": "read",
                    "arguments": {"path": "pond.txt", "start": 0, "end": -1},
                }
            ],
        },
        {"role": "tool", "content": "a carp", "tool_call_id": "3"},
        {"role": "assistant", "content": "A carp."},
    ]


def test_a_list_of_events_in_one_record_tells_the_same():
    (streamed,) = items(EVENTS)
    (whole,) = items([EVENTS])

    assert detected([EVENTS]) == "openhands"
    assert FORM.canonical(streamed).messages == FORM.canonical(whole).messages
    assert json.loads(streamed.record.text) == streamed.value == whole.value


def test_pairs_one_a_record_are_one_row_too():
    pairs = ROWS[1]["history"]

    (item,) = items(pairs)

    assert FORM.canonical(item).messages == told(ROWS[1]).messages
    assert item.value == pairs


def test_a_record_that_cannot_be_read_is_a_row_of_its_own_and_told_by_the_others():
    records = [Record(1, ASK), Record(2, fault="not JSON"), Record(3, REPLY)]

    broken_one, run = FORM.read(records, {})

    assert broken_one.record.fault
    assert run.numbers == (1, 3)
    assert FORM.canonical(run).remarks == ("events that cannot be read are left out: records 2",)


def test_a_status_among_events_belongs_to_the_run_and_a_row_of_another_kind_does_not():
    status = {"status_update": True, "message": "starting"}
    other = {"messages": [{"role": "user", "content": "x"}]}

    rest, run = items([ASK, status, other, REPLY])

    assert rest.value == other
    assert run.numbers == (1, 2, 4)
    assert run.value == [ASK, status, REPLY]


def test_the_text_of_a_run_is_the_list_of_the_texts_of_its_records():
    texts: list[bytes | str] = [json.dumps(ASK).encode(), json.dumps(REPLY, indent=1)]

    (run,) = FORM.read([Record(n, json.loads(text), text) for n, text in enumerate(texts, 1)], {})

    assert run.record.text == f"[{json.dumps(ASK)},{json.dumps(REPLY, indent=1)}]"
    assert json.loads(run.record.text) == run.value


def test_what_is_odd_about_a_record_is_told_of_the_run():
    lost = NonFinite(("args", "cost"), "NaN")
    records = [Record(4, ASK), Record(7, REPLY, non_finite=(lost,), remarks=("a key twice",))]

    (run,) = FORM.read(records, {})

    assert [str(each) for each in run.record.non_finite] == ["1.args.cost is NaN"]
    assert run.record.remarks == ("a key twice",)


def test_one_event_by_itself_is_no_run():
    (item,) = items([REPLY])

    with pytest.raises(UnusableError, match="one event is no run"):
        FORM.canonical(item)


@pytest.mark.parametrize(
    "value",
    [
        {"action": "ls", "observation": "x", "response": "ls", "thought": "y"},
        {"kind": "Event", "apiVersion": "v1", "source": {"component": "x"}},
        {"source": "web", "action": "click"},
        {"observation": "sunny"},
        [{"action": "ls"}],
        [[1, 2]],
        {"instance_id": "a", "history": [{"role": "user", "content": "x"}]},
        {"kind": ["MessageEvent"]},
    ],
)
def test_what_only_looks_like_events_is_not(value):
    found = format_of_value(value)
    assert found is None or found.name != "openhands"


# The older events


def test_an_observation_without_a_call_is_said_to_the_agent_by_the_user():
    found = told([ASK, REPLY, result("error", "no such tool"), REPLY], FORM)

    assert found.messages[2] == {"role": "user", "content": "no such tool"}


def test_an_observation_answers_the_open_call_where_nothing_names_its_cause():
    call = {"action": "run", "source": "agent", "args": {"command": "ls"}}

    found = told([ASK, call, result("run", "a"), result("run", "b")], FORM).messages

    assert found[1]["tool_calls"] == [{"id": "", "name": "run", "arguments": {"command": "ls"}}]
    assert [turn["role"] for turn in found[2:]] == ["tool", "user"]


def test_a_command_of_the_user_is_not_a_call_of_the_agent():
    events = [action("run", 1, "user", command="ls"), result("run", "a", 1), REPLY]

    assert told(events, FORM).messages == [
        {"role": "user", "content": "User executed the command:\nls"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_a_call_through_mcp_has_the_name_and_arguments_of_its_tool():
    call = action("call_tool_mcp", 1, arguments={"url": "u"}, thought="t")
    call["args"]["name"] = "fetch"

    assert told([ASK, call], FORM).messages[1] == {
        "role": "assistant",
        "content": "t",
        "tool_calls": [{"id": "1", "name": "fetch", "arguments": {"url": "u"}}],
    }


def test_a_call_whose_response_is_not_kept_is_told_from_its_action():
    call = action("run", 1, command="ls", thought="I look.")
    call["tool_call_metadata"] = {"tool_call_id": "c1", "function_name": "execute_bash"}

    found = told([ASK, call], FORM)

    assert found.messages[1] == {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [{"id": "c1", "name": "execute_bash", "arguments": {"command": "ls"}}],
    }


def test_a_thought_is_what_the_think_tool_was_given():
    (_, turn) = told([ASK, action("think", 1, thought="Hm.")], FORM).messages

    assert turn["content"] == ""
    assert turn["tool_calls"][0]["arguments"] == {"thought": "Hm."}


def test_what_a_delegated_agent_did_is_left_out_and_told():
    inner = [action("message", 2, content="inner"), action("run", 3, command="x")]
    events = [
        ASK,
        action("delegate", 1, agent="Browser", inputs={"task": "look"}),
        *inner,
        result("delegate", "", 1, extras={"outputs": {"content": "seen"}}),
        REPLY,
    ]

    found = told(events, FORM)

    assert [turn["content"] for turn in found.messages] == ["Hi", "", "seen", "Hello"]
    assert found.messages[2]["tool_call_id"] == "1"
    assert "what a delegated agent did is left out, events: 2" in found.remarks


def test_a_condensed_history_is_told_whole_and_said():
    events = [ASK, REPLY, action("condensation", 3, summary="short"), ASK, REPLY]

    found = told(events, FORM)

    assert len(found.messages) == 4
    assert "what the model saw was condensed, times: 1" in found.remarks[0]


def test_a_condensation_that_the_model_asked_for_is_a_call_of_it():
    ask = action("condensation_request", 1)
    ask["tool_call_metadata"] = {"tool_call_id": "c1", "function_name": "request_condensation"}

    assert [turn["role"] for turn in told([ASK, ask], FORM).messages] == ["user", "assistant"]
    assert len(told([ASK, action("condensation_request", 1), REPLY], FORM).messages) == 2


def test_an_action_that_is_not_known_is_told_and_is_no_call():
    found = told([ASK, action("streaming_chunk", 1, chunk="He"), REPLY], FORM)

    assert len(found.messages) == 2
    assert found.remarks == ("no turn is told by these events: streaming_chunk 1",)


def test_events_without_args_say_what_their_message_is():
    short = [
        {"id": 1, "source": "user", "action": "message", "message": "Hi"},
        {"id": 2, "source": "agent", "action": "message", "message": "Hello"},
    ]

    assert told(short, FORM).messages == told([ASK, REPLY], FORM).messages


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (action("message", source="user", content="x", image_urls=["u"]), "event 1 has images"),
        (action("message", content=5), "event 1 has a number as content"),
        ({**REPLY, "args": []}, "event 1 has a list as args"),
        (result("run", [{"type": "image"}]), "event 1 has a content part of type 'image'"),
        ([ASK, 5], "among the events is a list"),
    ],
)
def test_an_event_that_cannot_be_understood_is_named(event, why):
    assert why in reason([event, REPLY, REPLY], FORM)


# The events of the SDK


def test_the_events_of_the_sdk_are_told_turn_by_turn():
    (item,) = items(SDK)

    found = FORM.canonical(item)

    assert detected(SDK) == "openhands"
    assert found.messages == [
        {
            "role": "system",
            "content": "You are a helpful agent.\nThe date is the first of March.",
        },
        {"role": "user", "content": "How many bees are in hive.txt?\nBees are insects."},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "k1", "name": "terminal", "arguments": {"command": "ls"}},
                {"id": "k2", "name": "terminal", "arguments": {"command": "wc -l hive.txt"}},
            ],
            "reasoning": "The file may be elsewhere.",
        },
        {"role": "tool", "content": "hive.txt", "tool_call_id": "k1"},
        {"role": "tool", "content": "no such command: wc", "tool_call_id": "k2"},
        {"role": "tool", "content": "k9 is no call that was made", "tool_call_id": "k9"},
        {
            "role": "assistant",
            "content": "There are three bees.",
            "reasoning": "I counted them.",
        },
    ]
    assert found.tools == [
        {"type": "function", "function": {"name": "terminal", "description": "Run a command."}}
    ]
    assert found.said["source"][0] == "heron-2"
    assert found.remarks == (
        "no turn is told by these events: ConversationStateUpdateEvent 1",
        "what the model saw was condensed, times: 1; the turns tell the whole history",
        "an error is said of results, in events 7, 9",
        "tools of the system event is without a schema for terminal",
    )


def test_calls_of_one_response_are_one_turn_even_when_a_result_came_between():
    order = [1, 3, 5, 4, 6]

    found = told([SDK[n] for n in order], FORM).messages

    assert [turn["role"] for turn in found] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in found[1]["tool_calls"]] == ["k1", "k2"]


def test_a_tool_of_an_mcp_server_has_its_own_name_and_schema():
    schema = {"type": "object"}
    system = deepcopy(SDK[0])
    system["tools"] = [
        {"kind": "MCPToolDefinition", "mcp_tool": {"name": "fetch", "inputSchema": schema}},
        {"type": "function", "function": {"name": "plain"}},
    ]

    assert told([system, *SDK[1:]], FORM).tools == [
        {"type": "function", "function": {"name": "fetch", "parameters": schema}},
        {"type": "function", "function": {"name": "plain"}},
    ]


def test_a_rejected_action_is_answered_by_its_reason():
    rejection = {
        "kind": "UserRejectObservation",
        "source": "environment",
        "tool_name": "terminal",
        "tool_call_id": "k1",
        "rejection_reason": "too dangerous",
    }

    assert told([SDK[1], SDK[3], rejection], FORM).messages[2] == {
        "role": "tool",
        "content": "Action rejected: too dangerous",
        "tool_call_id": "k1",
    }


def test_an_observation_of_an_older_sdk_is_told_by_its_output():
    older = deepcopy(SDK[5])
    older["observation"] = {"kind": "ExecuteBashObservation", "output": "hive.txt", "exit_code": 0}
    bare = deepcopy(SDK[5])
    bare["observation"] = {"kind": "X", "exit_code": 0}

    found = told([SDK[1], SDK[3], older, bare], FORM).messages

    assert [turn["content"] for turn in found[2:]] == ["hive.txt", '{"exit_code":0}']


def said(name: str, parent: str | None, source: str, text: str) -> dict[str, Any]:
    """A message of the SDK with its place in the tree of events."""
    role = "assistant" if source == "agent" else "user"
    message = {"role": role, "content": [{"type": "text", "text": text}]}
    event = {"kind": "MessageEvent", "id": name, "parent_id": parent, "source": source}
    return {**event, "llm_message": message}


def test_a_run_that_began_again_is_told_from_its_new_root():
    events = [
        said("a", None, "user", "Hi"),
        said("b", "a", "agent", "Hello"),
        said("c", "__root__", "user", "Once more"),
        said("d", "c", "agent", "Welcome"),
    ]

    assert [turn["content"] for turn in told(events, FORM).messages] == ["Once more", "Welcome"]


def test_only_the_branch_that_leads_to_the_last_event_is_told():
    events = [
        said("a", None, "user", "Hi"),
        said("b", "a", "agent", "first try"),
        said("c", "a", "agent", "second try"),
        said("d", None, "user", "Thanks"),
        said("e", "d", "agent", "Welcome"),
    ]

    found = told(events, FORM)

    assert [turn["content"] for turn in found.messages] == ["Hi", "second try", "Thanks", "Welcome"]
    assert found.remarks == ("other branches of the run are left out, events: 1",)


@pytest.mark.parametrize("parent", ["e", "x", "__root__", None, 5])
def test_parents_that_lead_nowhere_or_in_a_circle_do_no_harm(parent):
    events = [{**event, "id": "e", "parent_id": parent} for event in SDK]

    hold(FORM, events)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({**SDK[1], "llm_message": None}, "event 1 has null as llm_message"),
        ({**SDK[1], "llm_message": {"role": "x"}}, "event 1 has a message whose role is none of"),
        (
            {**SDK[1], "llm_message": {"role": "user", "content": [{"type": "image"}]}},
            "event 1 has a content part of type 'image'",
        ),
        ({**SDK[5], "observation": "x"}, "event 1 has text as observation"),
        ({**SDK[3], "tool_call": {}}, "event 1 has no function name"),
    ],
)
def test_an_event_of_the_sdk_that_cannot_be_understood_is_named(event, why):
    assert why in reason([event, SDK[9]], FORM)


# Whole files


def test_the_rows_of_an_evaluation_are_read_and_given_back():
    reading = read_trajectories([SAMPLES / "openhands.jsonl"])

    table = reading.table
    assert table["task_id"].to_list() == ["mill-1", "mill-2"]
    assert table["source"].to_list() == ["heron-2", "heron-2"]
    assert table["success"].to_list() == [True, False]
    assert [original_row(row) for row in table.iter_rows(named=True)] == ROWS


@pytest.mark.parametrize(
    ("name", "events", "n_calls"),
    [("openhands_events.json", EVENTS, 1), ("openhands_sdk.jsonl", SDK, 2)],
)
def test_a_file_of_events_is_read_as_one_row_and_given_back(name, events, n_calls):
    reading = read_trajectories([SAMPLES / name])

    (row,) = reading.table.iter_rows(named=True)
    assert json.loads(row["origin_rows"]) == [*range(1, len(events) + 1)]
    assert row["n_tool_calls"] == n_calls
    assert original_row(row) == events


@given(broken([*ROWS, EVENTS, SDK]))
def test_a_broken_row_is_told_or_refused(value):
    hold(FORM, value)


@given(broken([EVENTS, SDK]))
def test_a_file_of_broken_events_is_told_or_refused(values):
    for item in items(values) if isinstance(values, list) else []:
        if not item.numbers:
            continue
        try:
            canonical = FORM.canonical(item)
        except UnusableError:
            continue
        columns = conversation_columns(item.value, canonical, FORM)
        assert json.dumps(original_row(columns)) == json.dumps(item.value)

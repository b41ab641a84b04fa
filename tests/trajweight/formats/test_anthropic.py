"""Laws of Anthropic messages: blocks become turns, and plain rows are left to OpenAI messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import (
    ASK,
    REPLY,
    SAMPLES,
    broken,
    detected,
    form_of,
    given_back,
    hold,
    messages,
    reason,
    sample,
    told,
)
from trajweight.formats.anthropic import Anthropic
from trajweight.reading import original_row, read_trajectories

FORM = Anthropic()
ROWS = sample("anthropic.jsonl")
CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "sky"}}
DONE = {"type": "tool_result", "tool_use_id": "t1", "content": "blue"}


def talk(*contents: Any, **more: Any) -> dict[str, Any]:
    """A row whose turns are by the user and the assistant in turn."""
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    return {"messages": turns, **more}


def test_the_sample_is_told_turn_by_turn():
    assert messages(ROWS[0]) == [
        {"role": "system", "content": "You keep a small tea shop."},
        {"role": "user", "content": "Do you have anything smoky?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "toolu_a1", "name": "find_tea", "arguments": {"kind": "smoky"}}],
            "reasoning": "Smoky means lapsang. I look it up.",
        },
        {"role": "tool", "content": "lapsang souchong: 4 tins", "tool_call_id": "toolu_a1"},
        {"role": "user", "content": "And please be quick."},
        {"role": "assistant", "content": "Yes, four tins of lapsang souchong."},
    ]


def test_parallel_calls_stay_one_turn_and_their_results_are_two():
    found = told(ROWS[1])

    assert [turn["role"] for turn in found.messages] == [
        *("system", "user", "assistant", "tool", "tool", "assistant")
    ]
    assert found.messages[0]["content"] == "You keep a small tea shop.\nAnswer in one sentence."
    assert [call["id"] for call in found.messages[2]["tool_calls"]] == ["toolu_b1", "toolu_b2"]
    assert [turn["tool_call_id"] for turn in found.messages[3:5]] == ["toolu_b1", "toolu_b2"]
    assert found.remarks == (
        "is_error is set on results in messages 3",
        "redacted thinking is not told, in messages 2",
    )


def test_tools_are_told_as_functions():
    assert told(ROWS[2]).tools[0] == {
        "type": "function",
        "function": {
            "name": "find_tea",
            "description": "Find teas in the shop's shelf list.",
            "parameters": ROWS[2]["tools"][0]["input_schema"],
        },
    }


def test_a_tool_that_the_server_runs_has_no_schema_and_is_told():
    found = told(talk("a", [CALL], [DONE], "b", tools=[{"type": "search_1", "name": "search"}]))

    assert found.tools == [{"type": "function", "function": {"name": "search"}}]
    assert found.remarks == ("tools is without a schema for search",)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_given_back_whole(row):
    assert given_back(row) == row


@pytest.mark.parametrize(
    "row",
    [
        *ROWS,
        talk("a", [CALL]),
        talk("a", "b", [DONE], "c"),
        talk("a", [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "b"}]),
        talk("a", "b", tools=[{"name": "f", "input_schema": {}}]),
        talk("a", "b", tools='[{"name": "f", "input_schema": {}}]'),
        talk("a", "b", system=[{"type": "text", "text": "x"}]),
    ],
)
def test_what_only_anthropic_writes_is_known(row):
    assert form_of(row).name == "anthropic"


@pytest.mark.parametrize(
    "row",
    [
        talk("a", "b"),
        talk("a", "b", system="x"),
        talk([{"type": "text", "text": "a"}], "b"),
        talk("a", "b", tools=[{"type": "function", "function": {"name": "f"}}]),
        {
            "messages": [
                {**REPLY, "content": [{"type": "thinking", "thinking": "x"}], "tool_calls": [{}]}
            ]
        },
    ],
)
def test_rows_that_others_write_too_are_openai_messages(row):
    assert form_of(row).name == "messages"


def test_a_file_that_begins_with_plain_rows_is_known_by_a_later_one():
    assert detected([talk("a", "b"), talk("a", [CALL])]) == "anthropic"
    assert detected([talk("a", "b"), talk("a", "b")]) == "messages"
    assert detected([{"other": 1}]) is None


def test_results_come_before_what_the_user_says_wherever_they_stand():
    row = talk("a", [CALL], [{"type": "text", "text": "and?"}, DONE], "b")

    assert [turn["role"] for turn in messages(row)] == [
        *("user", "assistant", "tool", "user", "assistant")
    ]


def test_a_server_tool_splits_the_answer_it_stands_in():
    found = [{"type": "web_search_result", "url": "u"}]
    row = talk(
        "a",
        [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": found},
            {"type": "text", "text": "It is "},
            {"type": "text", "text": "blue."},
        ],
    )

    assert messages(row)[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "s1", "name": "web_search", "arguments": {"query": "q"}}],
        },
        {
            "role": "tool",
            "content": '[{"type":"web_search_result","url":"u"}]',
            "tool_call_id": "s1",
        },
        {"role": "assistant", "content": "It is blue."},
    ]


def test_text_after_a_call_is_told_before_it_and_said():
    text = {"type": "text", "text": "x"}

    assert told(talk("a", [CALL, text], [DONE], "b")).remarks == (
        "text after a tool call is told before it, in messages 2",
    )
    assert told(talk("a", [text, CALL], [DONE], "b")).remarks == ()


def test_calls_of_the_openai_way_beside_blocks_are_kept():
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    turns = [
        ASK,
        {"role": "assistant", "content": [CALL], "tool_calls": calls},
        {"role": "user", "content": [DONE]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        REPLY,
    ]

    found = messages({"messages": turns})

    assert [call["name"] for call in found[1]["tool_calls"]] == ["look", "f"]
    assert [turn.get("tool_call_id") for turn in found[2:4]] == ["t1", "c"]


def test_an_answer_of_nothing_is_told_as_such():
    assert told(talk("a", None, "b", [CALL])).remarks == (
        "turn 2 is an assistant turn with no text and no tool call",
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([DONE, {"type": "image", "source": {}}], "message 3 has a content part of type 'image'"),
        ([{**DONE, "content": [{"type": "image"}]}], "tool_result in message 3 has a content part"),
        ([DONE, {"type": "text"}], "of type 'text' without text"),
        ([DONE, 5], "message 3 has a content part of type a number"),
        ({"a": 1}, "message 3 has a content part of type an object"),
        (5, "message 3 has a number as content"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(content, why):
    assert why in reason(talk("a", [CALL], content, "b"), FORM)


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ("x", "message 1 is text"),
        ({"role": "boss", "content": "x"}, "message 1 has role 'boss'"),
        ({"role": ["user"], "content": "x"}, "message 1 has role a list"),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}, "without a name"),
    ],
)
def test_a_turn_that_cannot_be_understood_is_named(turn, why):
    assert why in reason({"messages": [turn, {**REPLY, "content": [CALL]}]}, FORM)


def test_the_sample_file_is_read_and_given_back():
    reading = read_trajectories([SAMPLES / "anthropic.jsonl"])

    assert not reading.rejected
    assert reading.table["source"].to_list() == ["heron-2"] * 3
    assert reading.table["reward"].to_list() == [1.0, 0.0, 1.0]
    assert [original_row(row) for row in reading.table.iter_rows(named=True)] == ROWS


@given(broken(ROWS))
def test_a_broken_row_is_told_or_refused(row):
    hold(FORM, row)

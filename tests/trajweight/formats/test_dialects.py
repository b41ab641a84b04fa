"""Laws of dialects: however a tool logs a call, the same conversation comes out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import broken, json_values
from trajweight.formats import UnusableError
from trajweight.formats.dialects import turns_of
from trajweight.formats.prompts import talk_of, tools_in

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [{"id": "c", "name": "sky", "arguments": {"at": 9}}],
        "reasoning": "Looking helps.",
    },
    {"role": "tool", "content": "grey", "tool_call_id": "c"},
    {"role": "assistant", "content": "Soon."},
]


def text(value: str, key: str = "text") -> dict[str, str]:
    return {"type": "text", key: value}


def dump(name: str, **fields: Any) -> dict[str, Any]:
    """A message as LangChain writes it with its class."""
    path = ["langchain", "schema", "messages", f"{name}Message"]
    return {"lc": 1, "type": "constructor", "id": path, "kwargs": fields}


FUNCTION = {"name": "sky", "arguments": '{"at": 9}'}
OPENAI = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [text("Ra"), text("in?")]},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [{"id": "c", "type": "function", "function": FUNCTION}],
        "reasoning_content": "Looking helps.",
    },
    {"role": "tool", "tool_call_id": "c", "content": "grey"},
    {"role": "assistant", "content": "Soon."},
]
RESPONSES = [
    {"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
    {"type": "message", "role": "user", "content": "Rain?"},
    {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": "Looking helps."}],
    },
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I look."}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c", **FUNCTION},
    {"type": "function_call_output", "call_id": "c", "output": "grey"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Soon."}]},
]
ANTHROPIC = [
    {"role": "system", "content": [text("Be brief.")]},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Looking helps.", "signature": "s"},
            text("I look."),
            {"type": "tool_use", "id": "c", "name": "sky", "input": {"at": 9}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c", "content": [text("grey")]}],
    },
    {"role": "assistant", "content": [text("Soon.")]},
]
LANGCHAIN = [
    dump("System", content="Be brief."),
    dump("Human", content="Rain?"),
    dump(
        "AI",
        content=[
            text("I look."),
            {"type": "tool_use", "id": "c", "name": "sky", "input": {"at": 9}},
        ],
        tool_calls=[{"name": "sky", "args": {"at": 9}, "id": "c", "type": "tool_call"}],
        additional_kwargs={"reasoning_content": "Looking helps."},
    ),
    dump("Tool", content="grey", tool_call_id="c", id="m4"),
    dump("AI", content="Soon."),
]
TYPED = [
    {"type": "system", "data": {"content": "Be brief."}},
    {"type": "human", "content": "Rain?", "id": "m2"},
    {
        "type": "ai",
        "data": {
            "content": "I look.",
            "tool_calls": [{"name": "sky", "args": {"at": 9}, "id": "c"}],
            "additional_kwargs": {"reasoning_content": "Looking helps."},
        },
    },
    {"type": "tool", "data": {"content": "grey", "tool_call_id": "c"}},
    {"type": "AIMessageChunk", "content": "Soon."},
]
TELEMETRY = [
    {"role": "system", "parts": [text("Be brief.", "content")]},
    {"role": "user", "parts": [text("Rain?", "content")]},
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "Looking helps."},
            text("I look.", "content"),
            {"type": "tool_call", "id": "c", "name": "sky", "arguments": {"at": 9}},
        ],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "grey"}]},
    {"role": "assistant", "parts": [text("Soon.", "content")]},
]
VERCEL = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [text("Rain?")]},
    {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "text": "Looking helps."},
            text("I look."),
            {"type": "tool-call", "toolCallId": "c", "toolName": "sky", "input": {"at": 9}},
        ],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "c",
                "toolName": "sky",
                "output": {"type": "text", "value": "grey"},
            }
        ],
    },
    {"role": "assistant", "content": [text("Soon.")]},
]
DIALECTS: dict[str, list[Any]] = {
    "openai": OPENAI,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "langchain": LANGCHAIN,
    "typed": TYPED,
    "telemetry": TELEMETRY,
    "vercel": VERCEL,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cut", [1, 2])
def test_every_dialect_tells_the_same_conversation(dialect, cut):
    logged = DIALECTS[dialect]

    assert talk_of(logged[:-cut], logged[-cut:]).turns == TURNS


@pytest.mark.parametrize(
    "prompt",
    [
        OPENAI[:-1],
        {"messages": OPENAI[:-1], "model": "m"},
        {"messages": [OPENAI[:-1]]},
        {"input": {"messages": OPENAI[:-1]}},
        {"instructions": "Be brief.", "input": OPENAI[1:-1]},
        {"system": [text("Be brief.")], "messages": OPENAI[1:-1]},
        json.dumps({"messages": OPENAI[:-1]}),
        json.dumps({"messages": json.dumps(OPENAI[:-1])}),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        "Soon.",
        OPENAI[-1],
        [OPENAI[-1]],
        {"content": "Soon."},
        {"text": "Soon."},
        {"output": "Soon."},
        {"messages": [OPENAI[-1]]},
        {"messages": OPENAI},  # the whole state of a graph
        {"choices": [{"index": 0, "message": OPENAI[-1]}]},
        {"generations": [[{"text": "Soon.", "message": LANGCHAIN[-1]}]], "llm_output": None},
        {"generations": [[{"text": "Soon."}]]},
        {"type": "message", "role": "assistant", "content": [text("Soon.")]},
        {"output": [RESPONSES[-1]]},
        [text("Soon.")],
        json.dumps({"role": "assistant", "content": "Soon."}),
    ],
)
def test_prompts_and_answers_are_found_in_what_is_around_them(prompt, answer):
    assert talk_of(prompt, answer).turns == TURNS


def test_texts_are_a_question_and_an_answer():
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    assert talk_of("a", "b").turns == plain
    assert talk_of({"prompts": ["a"]}, {"generations": [[{"text": "b"}]]}).turns == plain
    assert talk_of([["human", "a"]], [["ai", "b"]]).turns == plain


def test_of_several_choices_the_first_is_read_and_the_others_said():
    found = talk_of("a", {"choices": [{"message": OPENAI[-1]}, {"message": {"content": "x"}}]})

    assert found.turns[-1]["content"] == "Soon."
    assert found.remarks == ("the model gave 2 choices; the first is read",)


@pytest.mark.parametrize("prompt", [{"prompts": ["a", "b"]}, {"messages": [OPENAI, OPENAI]}])
def test_a_batch_of_conversations_is_refused(prompt):
    with pytest.raises(UnusableError, match="a batch of 2 conversations"):
        talk_of(prompt, "x")


def test_calls_that_were_no_json_are_kept_as_they_stood():
    broken_call = {"name": "sky", "args": '{"at": ', "id": "c", "error": "cut"}
    message = dump("AI", content="", invalid_tool_calls=[broken_call])

    (turn,) = turns_of(message, 1).turns

    assert turn["tool_calls"] == [{"id": "c", "name": "sky", "arguments": '{"at": '}]


def test_a_call_said_twice_is_made_once_and_two_alike_are_two():
    one = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    two = {"type": "tool_use", "id": "2", "name": "f", "input": {}}
    beside = [{"name": "f", "args": {}, "id": "1"}, {"name": "f", "args": {}, "id": "2"}]

    (turn,) = turns_of(dump("AI", content=[one, two], tool_calls=beside), 1).turns

    assert [call["id"] for call in turn["tool_calls"]] == ["1", "2"]


def test_redacted_thinking_is_said():
    message = {"role": "assistant", "content": [{"type": "redacted_thinking"}, text("b")]}

    found = turns_of(message, 3)

    assert found.turns == [{"role": "assistant", "content": "b"}]
    assert found.remarks == ("redacted thinking is not told, in messages 3",)


def test_what_a_tool_gives_back_is_text_or_json():
    values = {"a": "a", '{"b":1}': {"b": 1}, "[1,2]": [1, 2], "": None, "5": 5}

    for told, value in values.items():
        message = {"role": "tool", "tool_call_id": "c", "content": value}
        assert turns_of(message, 1).turns[0]["content"] == told


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (5, "message 1 is a number"),
        ({"role": "boss", "content": "x"}, "message 1 has role 'boss'"),
        ({"role": 5, "content": "x"}, "message 1 has role a number"),
        ({"content": "x"}, "message 1 has role ''"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "a part of type 'image_url'"),
        ({"role": "user", "content": [{"type": "text"}]}, "of type 'text' without text"),
        ({"role": "user", "content": 5}, "a part of type a number"),
        ({"role": "assistant", "tool_calls": 5, "content": ""}, "has a number as tool_calls"),
        ({"role": "assistant", "tool_calls": [{}], "content": ""}, "tool call 1 has no function"),
        (
            {"role": "user", "content": [{"type": "tool_call", "name": "f"}]},
            "is a user message that calls a tool",
        ),
    ],
)
def test_a_message_that_cannot_be_understood_is_named(message, why):
    with pytest.raises(UnusableError, match=why):
        turns_of(message, 1)


@pytest.mark.parametrize(
    ("prompt", "answer", "why"),
    [
        ({"question": "a"}, "b", "the input of the call is an object with question"),
        (5, "b", "the input of the call is a number"),
        ("a", {"score": 1}, "the output of the call is an object with score"),
        ("a", True, "the output of the call is true or false"),
    ],
)
def test_what_holds_no_messages_is_named(prompt, answer, why):
    with pytest.raises(UnusableError, match=why):
        talk_of(prompt, answer)


def test_values_inside_values_without_end_are_refused():
    prompt: Any = "x"
    for _ in range(500):
        prompt = {"input": prompt}

    with pytest.raises(UnusableError):
        talk_of(prompt, "b")


def test_tools_stand_beside_the_messages():
    assert tools_in({"messages": [], "tools": [{"name": "f"}]}) == [{"name": "f"}]
    assert tools_in('{"functions": [{"name": "f"}]}') == [{"name": "f"}]
    assert tools_in([]) is None


@given(broken([*DIALECTS.values(), {"messages": LANGCHAIN}, {"choices": [{"message": OPENAI[2]}]}]))
def test_whatever_is_logged_is_told_or_refused(value):
    for prompt, answer in ((value, "x"), ("x", value)):
        try:
            turns = talk_of(prompt, answer).turns
        except UnusableError:
            continue
        assert all(isinstance(turn["content"], str) for turn in turns)


@given(json_values(), json_values())
def test_any_two_values_are_told_or_refused(prompt, answer):
    with contextlib.suppress(UnusableError):
        assert isinstance(talk_of(prompt, answer).turns, list)

"""Laws of Glaive chats: one text, whose speakers are named in capitals, is its turns."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import (
    broken,
    given_back,
    hold,
    messages,
    names_of,
    reason,
    sample,
)
from trajweight.formats import format_named

FORM = format_named("glaive")
ROWS = sample("glaive.jsonl")


def chat(text):
    return messages({"system": "", "chat": text})


def test_speakers_are_roles_and_end_marks_are_no_content():
    found = messages(ROWS[1])

    assert [(message["role"], message["content"]) for message in found] == [
        ("system", "You are a helpful assistant, with no access to external functions."),
        ("user", "What is a fathom?"),
        ("assistant", "Six feet, or about 1.83 metres."),
    ]


def test_a_call_in_quotes_and_its_response_are_a_call_and_its_result():
    found = messages(ROWS[0])

    assert [message["role"] for message in found] == [
        *("system", "user", "assistant", "tool", "assistant", "user", "assistant")
    ]
    assert found[2]["tool_calls"] == [{"id": "", "name": "ferry", "arguments": {"pier": "east"}}]
    assert found[3] == {"role": "tool", "content": '{"leaves": "14:20"}'}


@pytest.mark.parametrize(
    "call",
    ['{"name": "f", "arguments": {"a": 1}}', '{"name": "f", "arguments": "{\\"a\\": 1}"}'],
)
def test_a_call_in_json_is_a_call(call):
    found = chat(f"USER: a\n\n\nASSISTANT: Wait. <functioncall> {call} <|endoftext|>\n\n\n")

    assert found[1]["content"] == "Wait."
    assert found[1]["tool_calls"] == [{"id": "", "name": "f", "arguments": {"a": 1}}]


@pytest.mark.parametrize("call", ["{f}", "5", '{"arguments": 1}', '{"name": "f", "arguments": \'x'])
def test_a_call_that_cannot_be_understood_stays_text(call):
    found = chat(f"USER: a\n\n\nASSISTANT: <functioncall> {call} <|endoftext|>")

    assert found[1] == {"role": "assistant", "content": f"<functioncall> {call}"}


def test_a_name_in_capitals_inside_a_paragraph_is_text():
    found = chat("USER: Who is the\nUSER: of a tool?\n\n\nASSISTANT: You.")

    assert [message["content"] for message in found] == ["Who is the\nUSER: of a tool?", "You."]


@pytest.mark.parametrize("text", ["", "Hello", "USER", "Once\n\n\nUSER: a", None, ["USER: a"]])
def test_text_without_a_first_speaker_is_no_chat(text):
    assert names_of({"system": "", "chat": text}) == []


def test_a_system_text_that_is_none_is_refused():
    assert reason({"system": 5, "chat": "USER: a"}) == "system is a number, not text"


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(row):
    assert json.dumps(given_back(row)) == json.dumps(row)


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)


def test_a_long_run_of_line_breaks_is_read_quickly():
    found = chat("USER: a" + "\n" * 500_000 + "b\n\n\nASSISTANT: c")

    assert [message["role"] for message in found] == ["user", "assistant"]

"""Laws of the pieces that formats share: text is joined, tools are wrapped, sentences are short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajweight.formats import UnusableError
from trajweight.formats.pieces import (
    assembled,
    assistant_turn,
    function_tools,
    listing,
    run_of,
    shown,
    text_of,
    thinking_of,
    tool_turn,
)
from trajweight.records import Record

REPLY = assistant_turn("Hello", [])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        (["a", {"type": "text", "text": "b"}, {"type": "output_text", "text": "c"}], "a-b-c"),
        ({"type": "text", "text": "a"}, "a"),
        ([], ""),
    ],
)
def test_text_is_that_of_all_parts(content, text):
    assert text_of(content, "here", between="-") == text


@pytest.mark.parametrize("content", [5, True, [[]], [{"type": ["text"]}], [{"text": "a"}], {}])
def test_what_is_no_text_is_refused_with_its_place(content):
    with pytest.raises(UnusableError, match=r"^here has "):
        text_of(content, "here")


def test_thinking_is_the_text_of_its_blocks():
    blocks = [
        {"type": "thinking", "thinking": "a"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "b"}, 5]},
        {"type": "thinking", "thinking": 5},
    ]

    assert thinking_of(blocks) == "a\nb"
    assert thinking_of("blocks") == ""


@pytest.mark.parametrize("key", ["parameters", "input_schema", "inputSchema"])
def test_a_bare_definition_is_wrapped_and_a_wrapped_one_is_left(key):
    bare = {"name": "f", "description": "d", key: {"type": "object"}}
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    wrapped = {"type": "function", "function": function}

    assert function_tools([bare, wrapped], "tools") == ([wrapped, wrapped], ())


@pytest.mark.parametrize("value", ["not json", "5", 5, {"a": 1}, [5], [{}, "x"]])
def test_definitions_that_are_no_list_of_objects_are_left_out_and_told(value):
    assert function_tools(value, "tools") == (
        [],
        ("tools is not a list of objects; the template gets none",),
    )


@pytest.mark.parametrize("value", [None, "", [], {}, "[]"])
def test_no_definitions_are_nothing_to_tell(value):
    assert function_tools(value, "tools") == ([], ())


@pytest.mark.parametrize(("call_id", "kept"), [("a", "a"), (7, "7"), ("", None), (None, None)])
def test_a_result_names_its_call_where_it_is_known(call_id, kept):
    assert tool_turn("x", call_id).get("tool_call_id") == kept


def test_a_conversation_needs_an_assistant_turn_that_says_something_new():
    asked = {"role": "user", "content": "Hi"}

    assert assembled([asked, assistant_turn(" ", []), REPLY]).remarks == (
        "turn 2 is an assistant turn with no text and no tool call",
    )
    with pytest.raises(UnusableError, match="no assistant turn has text or tool calls"):
        assembled([asked, assistant_turn(" ", [])])
    with pytest.raises(UnusableError, match="only shown"):
        assembled([asked, {**REPLY, "untrained": True}, assistant_turn("", [])])


@given(st.lists(st.text(), max_size=6))
def test_a_sentence_names_few_and_cuts_them_short(values):
    assert len(listing(values)) <= 3 * 120 + 20
    assert all(shown(value) == value for value in values if len(value) <= 120)


def test_a_run_is_named_by_the_text_of_its_record():
    value = {"a": 1}

    assert run_of(Record(1, value)) == run_of(Record(2, value, b'{"a":1}'))
    assert run_of(Record(1, value)) != run_of(Record(1, {"a": 2}))


def test_a_record_too_deep_to_be_written_has_a_name_all_the_same():
    value: list[object] = []
    for _ in range(5000):
        value = [value]

    assert run_of(Record(1, value)).startswith("run:")

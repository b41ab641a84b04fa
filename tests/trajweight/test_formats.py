"""Laws of the formats: many spellings, one canonical conversation, or a reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from trajweight.formats import Format, Item, UnusableError, format_named, format_of_value, formats
from trajweight.records import Record

if TYPE_CHECKING:
    from trajweight.formats.protocol import Canonical

ASK = {"role": "user", "content": "Hi"}
REPLY = {"role": "assistant", "content": "Hello"}


def form_of(row: Any) -> Format:
    found = format_of_value(row)
    assert found is not None
    return found


def canonical(row: dict[str, Any]) -> Canonical:
    return form_of(row).canonical(Item(row, 1, Record(1, row)))


def reason(row: dict[str, Any]) -> str:
    with pytest.raises(UnusableError) as caught:
        canonical(row)
    return str(caught.value)


def test_names_are_unique_and_find_their_format():
    assert [format_named(form.name) for form in formats()] == list(formats())


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [ASK, REPLY]}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"messages": None, "conversations": []}, "sharegpt"),
        ({"messages": [], "conversations": []}, "messages"),
    ],
)
def test_format_is_known_by_content(row, name):
    assert name == form_of(row).name


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("developer", "system"),
        ("system", "system"),
        ("human", "user"),
        ("gpt", "assistant"),
        ("function", "tool"),
        ("observation", "tool"),
        ("tool", "tool"),
    ],
)
@pytest.mark.parametrize("key", ["messages", "conversations"])
@pytest.mark.parametrize(("role_key", "text_key"), [("role", "content"), ("from", "value")])
def test_known_roles_become_one_of_four(said, role, key, role_key, text_key):
    found = canonical({key: [{role_key: said, text_key: "x"}, REPLY]})

    assert found.messages[0] == {"role": role, "content": "x"}


def test_unknown_role_is_named_with_its_turn_and_the_known_ones():
    told = reason({"messages": [ASK, REPLY, {"role": "agent", "content": "x"}]})

    assert told == "turn 3 has role 'agent'; known roles are system, user, assistant, tool"


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ("text", "turn 1 is text, not an object"),
        ({"content": "x"}, "turn 1 has no role"),
        ({"role": ["user"], "content": "x"}, "turn 1 has role ['user']"),
        ({"role": "user", "content": 5}, "turn 1 has a number as content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "of type 'image_url'"),
        ({"role": "user", "content": [{"type": "text"}]}, "of type 'text' without text"),
        ({"role": "user", "content": [5]}, "of type 'a number'"),
        ({"role": "assistant", "tool_calls": 5}, "turn 1 has a number as tool_calls"),
        ({"role": "assistant", "tool_calls": [{}]}, "turn 1, tool call 1 has no function name"),
        ({"role": "assistant", "tool_calls": ["x"]}, "tool call 1 has no function name"),
        ({"from": "function_call", "value": "search("}, None),
    ],
)
def test_turn_that_cannot_be_understood_is_named(turn, told):
    if told is None:
        assert "turn 1 is a function_call" in reason({"conversations": [turn, REPLY]})
    else:
        assert told in reason({"messages": [turn, REPLY]})


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, "b", {"type": "text", "value": "c"}]

    found = canonical({"messages": [{"role": "user", "content": parts}, REPLY]})

    assert found.messages[0]["content"] == "abc"


@pytest.mark.parametrize(
    ("arguments", "decoded"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
        ("not json", "not json"),
        ('{"a": NaN}', '{"a": NaN}'),
        ("[1]", "[1]"),
    ],
)
@pytest.mark.parametrize("is_flat", [True, False])
def test_arguments_are_decoded_where_they_are_an_object(arguments, decoded, is_flat):
    function = {"name": "f", "arguments": arguments}
    call = {"id": "1", **(function if is_flat else {"type": "function", "function": function})}

    found = canonical({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]})

    assert found.messages == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "name": "f", "arguments": decoded}],
        }
    ]


def test_legacy_function_call_and_functions_are_a_tool_call_and_tools():
    call = {"name": "f", "arguments": "{}"}
    message = {"role": "assistant", "content": None, "function_call": call}

    found = canonical({"messages": [message], "functions": [{"name": "f"}]})

    assert found.messages[0]["tool_calls"] == [{"id": "", "name": "f", "arguments": {}}]
    assert found.tools == [{"type": "function", "function": {"name": "f"}}]


def test_sharegpt_call_and_observation_are_a_tool_call_and_its_answer():
    call = json.dumps({"name": "f", "arguments": {"a": 1}})
    items = [{"from": "function_call", "value": call}, {"from": "observation", "value": "2"}]

    found = canonical({"conversations": items})

    assert found.messages == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "", "name": "f", "arguments": {"a": 1}}],
        },
        {"role": "tool", "content": "2"},
    ]


def test_reasoning_stands_apart_from_the_content():
    found = canonical({"messages": [ASK, {**REPLY, "reasoning_content": "hm"}]})

    assert found.messages[1] == {**REPLY, "reasoning": "hm"}


def test_messages_as_json_text_are_decoded():
    assert canonical({"messages": json.dumps([ASK, REPLY])}).messages == [ASK, REPLY]


@pytest.mark.parametrize("tools", [[{"name": "f"}], '[{"name": "f"}]'])
def test_tools_are_a_list_or_its_json_text(tools):
    assert canonical({"messages": [REPLY], "tools": tools}).tools == [{"name": "f"}]


@pytest.mark.parametrize("tools", ["search, click", ["search"], {"name": "f"}])
def test_tools_that_are_no_list_of_objects_are_remarked(tools):
    found = canonical({"messages": [REPLY], "tools": tools})

    assert found.tools == []
    assert "tools is not a list of objects" in found.remarks[0]


def test_system_text_of_the_row_opens_the_conversation():
    found = canonical({"conversations": [ASK, REPLY], "system": "Be brief."})

    assert found.messages[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_silent_assistant_turn_is_kept_beside_another_that_speaks(content):
    silent = {"role": "assistant", "content": content}

    found = canonical({"messages": [ASK, silent, REPLY]})

    assert len(found.messages) == 3
    assert found.remarks == ("turn 2 is an assistant turn with no text and no tool call",)


@pytest.mark.parametrize("turns", [[ASK], [ASK, {"role": "assistant", "content": ""}]])
def test_row_without_anything_to_train_on_is_refused(turns):
    told = reason({"messages": turns})

    assert told == "no assistant turn has text or tool calls: nothing to train on"

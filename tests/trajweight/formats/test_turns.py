"""Laws of turns: many spellings, one canonical turn, or a reason that names it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.formats.rows import ASK, REPLY, messages, reason, told
from trajweight.formats import UnusableError
from trajweight.formats.turns import canonical_conversation, canonical_message
from trajweight.jsontext import decode

CALL = {"name": "f", "arguments": {"a": 1}}


def turn(**item):
    """The one turn of an item, beside an answer that makes its row usable."""
    return messages({"messages": [item, REPLY]})[0]


def remarks(*items):
    return told({"messages": [*items]}).remarks


# Roles


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("developer", "system"),
        ("system", "system"),
        ("human", "user"),
        ("User", "user"),
        ("gpt", "assistant"),
        ("chatgpt", "assistant"),
        ("bing", "assistant"),
        ("bard", "assistant"),
        ("model", "assistant"),
        ("function", "tool"),
        ("function_response", "tool"),
        ("function-response", "tool"),
        ("observation", "tool"),
        ("tool", "tool"),
        ("tool_response", "tool"),
        ("ipython", "tool"),
    ],
)
@pytest.mark.parametrize("key", ["messages", "conversations"])
@pytest.mark.parametrize(("role_key", "text_key"), [("role", "content"), ("from", "value")])
def test_known_roles_become_one_of_four(said, role, key, role_key, text_key):
    found = messages({key: [{role_key: said, text_key: "x"}, REPLY]})

    assert found[0] == {"role": role, "content": "x"}


def test_columns_that_another_spelling_left_null_say_nothing():
    assert turn(role=None, content=None, value="x", **{"from": "human"}) == {
        "role": "user",
        "content": "x",
    }


def test_unknown_role_is_named_with_its_turn_and_the_known_ones():
    said = reason({"messages": [ASK, REPLY, {"role": "agent", "content": "x"}]})

    assert said == "turn 3 has role 'agent'; known roles are system, user, assistant, tool"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("text", "turn 1 is text, not an object"),
        ({"content": "x"}, "turn 1 has no role"),
        ({"role": ["user"], "content": "x"}, "turn 1 has role a list"),
        ({"role": "user", "content": 5}, "turn 1 has a number as content"),
        ({"role": "user", "content": 0}, "turn 1 has a number as content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "of type 'image_url'"),
        ({"role": "tool", "content": [{"type": "image"}]}, "of type 'image'"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "of type a list"),
        ({"role": "user", "content": [{"type": "text"}]}, "of type 'text' without text"),
        ({"role": "assistant", "content": [{"type": "refusal"}]}, "of type 'refusal' without text"),
        ({"role": "user", "content": [5]}, "of type 'a number'"),
        ({"role": "assistant", "tool_calls": 5}, "turn 1 has a number as tool_calls"),
        ({"role": "assistant", "tool_calls": "no"}, "tool_calls of turn 1 is text, but not JSON"),
        ({"role": "assistant", "tool_calls": [{}]}, "turn 1, tool call 1 has no function name"),
        ({"role": "assistant", "tool_calls": ["x"]}, "tool call 1 has no function name"),
        (
            {"role": "tool_call", "content": "search("},
            "turn 1 is a tool_call, but its value is not",
        ),
        ({"from": "function_call", "value": "[]"}, "turn 1 is a function_call without name"),
        ({"role": "tool_call", "content": '{"a": 1}'}, "tool call 1 has no function name"),
    ],
)
def test_turn_that_cannot_be_understood_is_named(item, said):
    assert said in reason({"messages": [item, REPLY]})


# Content


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": "a"}, "b", {"type": "text", "value": "c"}],
        [{"type": "input_text", "text": "ab"}, {"type": "output_text", "text": "c"}],
        [{"text": "abc"}],
        [{"type": "text", "text": "abc", "image_url": None}],
        [{"type": "text", "content": "abc"}],
    ],
)
def test_text_parts_are_joined(parts):
    assert turn(role="user", content=parts)["content"] == "abc"


@pytest.mark.parametrize(
    "item",
    [
        {"content": None, "refusal": "I will not."},
        {"content": [{"type": "refusal", "refusal": "I will not."}]},
    ],
)
def test_a_refusal_is_what_the_assistant_says(item):
    assert turn(role="assistant", **item)["content"] == "I will not."


@pytest.mark.parametrize("content", [{"a": [1, None]}, [1, 2], ["a", "b"], [], 5, True, {"é": 0}])
def test_a_result_that_is_no_text_is_kept_as_json(content):
    assert json.loads(turn(role="tool", content=content)["content"]) == content


def test_thinking_inside_the_content_stays_there():
    text = "<think>\nhm\n</think>\n\nHello"

    assert turn(role="assistant", content=text) == {"role": "assistant", "content": text}


# Reasoning


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"thinking": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
        {"reasoning_content": None, "thinking": "", "reasoning": {"content": "hm"}},
    ],
)
def test_reasoning_of_every_vendor_stands_apart_from_the_content(fields):
    assert turn(**REPLY, **fields) == {**REPLY, "reasoning": "hm"}
    assert remarks({**REPLY, **fields}) == ()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "reasoning", "value": "hm"},
        {"type": "thinking", "thinking": "hm"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": "m"}]},
    ],
)
def test_reasoning_parts_stand_apart_from_the_text(part):
    found = turn(role="assistant", content=[part, {"type": "text", "text": "Hello"}])

    assert found == {**REPLY, "reasoning": "hm"}


def test_blocks_of_reasoning_are_lines():
    blocks = [{"type": "thinking", "thinking": "a"}, {"type": "thinking", "thinking": "b"}]

    assert turn(**REPLY, thinking_blocks=blocks)["reasoning"] == "a\nb"


def test_two_fields_of_different_reasoning_are_remarked():
    (said,) = remarks({**REPLY, "reasoning_content": "a", "thinking": "b"})

    assert said == "thinking of turn 1 is another text than reasoning_content; " + (
        "reasoning_content is read"
    )


@pytest.mark.parametrize(
    "details", [[{"type": "reasoning.encrypted", "data": "x"}], 5, [5], [{"type": "thinking"}]]
)
def test_reasoning_without_text_is_remarked(details):
    (said,) = remarks({**REPLY, "reasoning_details": details})

    assert said == "reasoning_details of turn 1 is not all text; the rest is kept, not read"


# Calls


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

    found = turn(role="assistant", content=None, tool_calls=[call])

    assert found == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "name": "f", "arguments": decoded}],
    }


@pytest.mark.parametrize("name", ["arguments", "parameters", "args", "input"])
def test_arguments_have_several_names(name):
    found = turn(role="assistant", tool_calls=[{"id": 7, "name": "f", name: {"a": 1}}])

    assert found["tool_calls"] == [{"id": "7", **CALL}]


def test_a_call_with_free_text_is_a_call_with_text_arguments():
    call = {"id": "1", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}}

    found = turn(role="assistant", tool_calls=[call])

    assert found["tool_calls"] == [{"id": "1", "name": "sh", "arguments": "ls -l"}]


def test_calls_may_be_json_text():
    found = turn(role="assistant", content="x", tool_calls=json.dumps([{"function": CALL}]))

    assert found["tool_calls"] == [{"id": "", **CALL}]


def test_call_parts_are_calls():
    parts = [
        {"type": "text", "value": "One moment."},
        {"type": "tool_call", "value": json.dumps(CALL)},
        {"type": "tool_call", "value": json.dumps([CALL, CALL])},
    ]

    found = turn(role="assistant", content=parts)

    assert found["content"] == "One moment."
    assert found["tool_calls"] == [{"id": "", **CALL}] * 3


def test_text_after_a_call_part_is_remarked():
    parts = [{"type": "tool_call", "value": CALL}, {"type": "text", "value": "x"}]

    assert remarks({"role": "assistant", "content": parts}) == (
        "text of turn 1 is after a tool call; read before it",
    )


def test_legacy_function_call_and_functions_are_a_tool_call_and_tools():
    item = {"role": "assistant", "content": None, "function_call": CALL}

    found = told({"messages": [item], "functions": [{"name": "f"}]})

    assert found.messages[0]["tool_calls"] == [{"id": "", **CALL}]
    assert found.tools == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("value", [json.dumps(CALL), CALL, json.dumps([CALL])])
@pytest.mark.parametrize("role", ["tool_call", "function_call", "tool-call"])
def test_a_turn_that_is_a_call_is_an_assistant_turn(role, value):
    assert turn(role=role, content=value) == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "", **CALL}],
    }


def test_calls_one_after_another_are_parallel_calls_of_one_turn():
    call = {"role": "tool_call", "content": CALL}
    result = {"role": "tool_response", "content": "2"}

    found = messages({"messages": [ASK, call, call, result, result, call, result, REPLY]})

    assert [len(message.get("tool_calls", ())) for message in found] == [0, 2, 0, 0, 1, 0, 0]


def test_a_call_after_the_words_of_the_assistant_is_of_the_same_turn():
    found = messages({"messages": [ASK, REPLY, {"role": "tool_call", "content": CALL}]})

    assert found == [ASK, {**REPLY, "tool_calls": [{"id": "", **CALL}]}]


def test_a_call_that_is_trained_on_does_not_join_words_that_are_not():
    call = {"role": "tool_call", "content": CALL}

    found = messages({"messages": [ASK, {**REPLY, "loss": False}, call]})

    assert [message.get("untrained") for message in found] == [None, True, None]


def test_thinking_before_a_call_is_what_the_turn_says():
    found = turn(role="function_call", content="<think>\nhm\n</think>\n\n" + json.dumps(CALL))

    assert found["content"] == "<think>\nhm\n</think>"
    assert found["tool_calls"] == [{"id": "", **CALL}]


# Flags


@pytest.mark.parametrize(
    "flag",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"loss_weight": 0.0},
        {"loss_scale": 0},
        {"loss_scale": [0, 0.0]},
        {"loss": False},
        {"loss": 0},
        {"loss": [False, False]},
        {"train": False},
        {"training": False},
        {"trainable": False},
        {"masked": True},
        {"train": True, "weight": 0},
    ],
)
def test_an_assistant_turn_that_is_flagged_is_shown_and_not_trained_on(flag):
    found = told({"messages": [ASK, {**REPLY, **flag}, ASK, REPLY]})

    assert found.messages == [ASK, {**REPLY, "untrained": True}, ASK, REPLY]
    assert len(found.remarks) == 1
    assert "is read as not to be trained on (turn 2)" in found.remarks[0]


@pytest.mark.parametrize(
    "flag",
    [
        {"weight": 1},
        {"loss_weight": 1.0},
        {"loss_scale": 1},
        {"loss": True},
        {"loss": None},
        {"train": True},
        {"trainable": True},
        {"masked": False},
        {"masked": None},
    ],
)
def test_a_flag_that_says_to_train_changes_nothing(flag):
    found = told({"messages": [ASK, {**REPLY, **flag}]})

    assert (found.messages, found.remarks) == ([ASK, REPLY], ())


@pytest.mark.parametrize(
    "flag", [{"weight": 0.5}, {"loss_scale": 3}, {"loss_scale": [0, 1]}, {"weight": "0"},
             {"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": False}]}]
)  # fmt: skip
def test_a_flag_between_all_and_nothing_is_remarked(flag):
    found = told({"messages": [ASK, {**REPLY, **flag}]})

    assert found.messages == [ASK, REPLY]
    (name,) = flag
    assert found.remarks == (f"the flag {name} is neither 0 nor 1; the turn counts whole (turn 2)",)


@pytest.mark.parametrize("role", ["user", "tool", "system"])
def test_only_assistant_turns_are_ever_trained_on(role):
    items = [{"role": role, "content": "x", "train": True, "weight": 0}, REPLY]

    found = told({"messages": items})

    assert found.messages == [{"role": role, "content": "x"}, REPLY]
    assert found.remarks == (f"the flag train: true is not followed on a {role} turn (turn 1)",)


def test_parts_that_are_all_flagged_flag_their_turn():
    def parts(*flags):
        return [{"type": "text", "text": "x", **flag} for flag in flags]

    no, yes = {"train": False}, {"train": True}

    found = messages(
        {
            "messages": [
                {"role": "assistant", "content": parts(no, {"train": False})},
                {"role": "assistant", "content": parts({"weight": 0}, {"weight": 0})},
                {"role": "assistant", "content": parts(no, {})},
                {"role": "assistant", "content": parts(yes, {})},
            ]
        }
    )

    assert [message.get("untrained") for message in found] == [True, True, None, None]


def test_many_flagged_turns_are_one_remark():
    flagged = {**REPLY, "loss": False}

    assert remarks(*[flagged] * 7, REPLY) == (
        "the flag loss: false is read as not to be trained on (turns 1, 2, 3, 4, 5 and 2 more)",
    )


def test_row_whose_assistant_turns_are_all_flagged_is_refused():
    assert reason({"messages": [ASK, {**REPLY, "weight": 0}]}) == (
        "every assistant turn that says something is flagged as not to be trained on"
    )


# Conversations


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_silent_assistant_turn_is_kept_beside_another_that_speaks(content):
    silent = {"role": "assistant", "content": content}

    found = told({"messages": [ASK, silent, REPLY]})

    assert len(found.messages) == 3
    assert found.remarks == ("turn 2 is an assistant turn with no text and no tool call",)


@pytest.mark.parametrize("turns", [[ASK], [ASK, {"role": "assistant", "content": ""}]])
def test_row_without_anything_to_train_on_is_refused(turns):
    said = reason({"messages": turns})

    assert said == "no assistant turn has text or tool calls: nothing to train on"


@pytest.mark.parametrize("key", ["system", "system_prompt"])
@pytest.mark.parametrize("text", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_system_text_of_the_row_opens_the_conversation(key, text):
    found = messages({"conversations": [ASK, REPLY], key: text})

    assert found[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(("text", "n_remarks"), [("Be brief.", 0), ("Be long.", 1)])
def test_system_text_of_the_row_gives_way_to_a_system_turn(text, n_remarks):
    first = {"role": "system", "content": "Be brief."}

    found = told({"messages": [first, ASK, REPLY], "system": text})

    assert found.messages[0] == first
    assert len(found.messages) == 3
    assert len(found.remarks) == n_remarks


def test_system_text_that_is_no_text_is_remarked():
    found = told({"messages": [ASK, REPLY], "system": {"a": 1}})

    assert found.messages == [ASK, REPLY]
    assert found.remarks == ("system is not text; the template gets none",)


@pytest.mark.parametrize("tools", [[{"name": "f"}], '[{"name": "f"}]', ['{"name": "f"}']])
def test_tools_are_a_list_or_its_json_text(tools):
    assert told({"messages": [REPLY], "tools": tools}).tools == [{"name": "f"}]


@pytest.mark.parametrize("tools", ["search, click", ["search"], {"name": "f"}, 5])
def test_tools_that_are_no_list_of_objects_are_remarked(tools):
    found = told({"messages": [REPLY], "tools": tools})

    assert found.tools == []
    assert "tools is not a list of objects" in found.remarks[0]


def test_first_turns_that_are_only_shown_are_never_trained_on():
    found = canonical_conversation({}, [ASK, REPLY, ASK, REPLY], n_shown=3)

    assert found.messages == [ASK, {**REPLY, "untrained": True}, ASK, REPLY]
    assert found.remarks == ("an assistant turn of the prompt is shown, not trained on (turn 2)",)


def test_one_message_is_told_as_in_its_conversation():
    item = {"role": "gpt", "content": "x", "tool_calls": [CALL], "reasoning": "hm", "weight": 0}

    alone = canonical_message(item, 1)

    assert alone == messages({"messages": [item, REPLY]})[0]


roles = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "Human", "agent"])
texts = st.text(max_size=3) | st.sampled_from([" \n", "<think>"])
plain = st.fixed_dictionaries({"role": roles, "content": texts}) | st.fixed_dictionaries(
    {"from": roles, "value": texts}
)


@given(st.lists(plain | st.sampled_from([None, 5, {}, {"role": "user"}]), max_size=6))
def test_plain_turns_are_told_the_fast_way_as_the_slow_way(items):
    """A key that says nothing takes a turn off the fast way and changes nothing else."""
    slow = [{**item, "name": None} if isinstance(item, dict) else item for item in items]

    def outcome(turns):
        try:
            return canonical_conversation({"system": "s"}, turns)
        except UnusableError as error:
            return str(error)

    assert outcome(items) == outcome(slow)


def test_telling_a_row_does_not_change_it():
    items = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    found = canonical_conversation({"system": "s"}, items)
    for message in found.messages:
        message["untrained"] = True

    assert items == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize("opening", ["[", '{"text":'])
@pytest.mark.parametrize(
    "key", ["content", "loss", "weight", "tool_calls", "reasoning_details", "tool_call_id"]
)
def test_values_nested_as_deep_as_json_may_be_are_refused_or_read(opening, key):
    closing = "]" if opening == "[" else "}"
    deep = decode(opening * 1000 + "1" + closing * 1000)

    for role in ("assistant", "tool"):
        with contextlib.suppress(UnusableError):
            turn(role=role, **{key: deep})

"""Laws of OpenTelemetry spans: messages, events or numbered attributes, the same conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import broken, detected, hold, json_values, names_of, sample
from trajweight.formats import Item, UnusableError
from trajweight.formats.opentelemetry import OpenTelemetry
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

FORM = OpenTelemetry()
BATCHES = sample("opentelemetry.jsonl")
SPANS = sample("opentelemetry_spans.jsonl")


def items(*values: Any) -> list[Item]:
    return list(FORM.read([Record(n, value) for n, value in enumerate(values, 1)], {}))


def told(*values: Any) -> Any:
    return FORM.canonical(items(*values)[0])


def span(events: list[Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """A span by itself, attributes named with one underscore for a dot."""
    named = {f"gen_ai.{key.replace('__', '.')}": value for key, value in attributes.items()}
    return {"trace_id": "t", "span_id": "s", "attributes": named, "events": events or []}


def message(role: str, *parts: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts), **more}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def test_the_samples_are_of_this_format_and_of_no_other():
    assert detected(BATCHES) == detected(SPANS) == FORM.name
    assert {tuple(names_of(value)) for value in [*BATCHES, *SPANS]} == {(FORM.name,)}


def test_spans_of_a_trace_are_joined_across_records():
    first, second = items(*BATCHES)

    assert (first.numbers, second.numbers) == ((1, 3), ())
    assert first.value == [BATCHES[0], BATCHES[2]]
    assert FORM.canonical(first).messages == [
        {"role": "system", "content": "You sell ferry tickets."},
        {"role": "user", "content": "Is the ferry late?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "f1", "name": "board", "arguments": {"line": "North"}}],
            "reasoning": "I ask the board.",
        },
        {"role": "tool", "content": "20 minutes late", "tool_call_id": "f1"},
        {"role": "assistant", "content": "Yes, by 20 minutes."},
    ]


def test_a_trajectory_says_its_trace_its_model_its_tools_and_its_evaluation():
    first, second = (FORM.canonical(item) for item in items(*BATCHES))

    assert dict(first.said) == {
        "reward": (0.75, "the score helpful"),
        "id": ("7a" * 16, "trace id"),
        "source": ("tern-3", "model of the call"),
    }
    assert [tool["function"]["name"] for tool in first.tools] == ["board"]
    assert second.said["id"] == ("desk-9", "conversation id")


def test_a_conversation_joins_its_traces_and_what_they_hold_besides():
    def turn(trace: str, n: int, *said: str) -> dict[str, Any]:
        roles = ("user", "assistant")
        spoken = [message(roles[i % 2], text(each)) for i, each in enumerate(said)]
        own = span(conversation__id="c", input__messages=spoken[:-1], output__messages=spoken[-1:])
        return {**own, "trace_id": trace, "start_time": n}

    tool = {
        "trace_id": "u",
        "span_id": "x",
        "attributes": {"gen_ai.operation.name": "execute_tool"},
    }

    (item,) = items(turn("t", 1, "a", "b"), tool, turn("u", 2, "a", "b", "c", "d"))

    assert item.numbers == (1, 2, 3)
    assert [turn["content"] for turn in FORM.canonical(item).messages] == ["a", "b", "c", "d"]


def test_the_events_of_older_versions_tell_the_conversation():
    assert told(*SPANS[:2]).messages == [
        {"role": "system", "content": "You sell ferry tickets."},
        {"role": "user", "content": "One ticket, please."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "q", "name": "sell", "arguments": {"n": 1}}],
        },
        {"role": "tool", "content": "sold: 1", "tool_call_id": "q"},
        {"role": "assistant", "content": "Here it is."},
    ]


def test_numbered_attributes_tell_the_conversation():
    assert told(SPANS[2]).messages == [
        {"role": "user", "content": "Two tickets."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "z", "name": "sell", "arguments": {"n": 2}}],
        },
        {"role": "tool", "content": "sold: 2", "tool_call_id": "z"},
        {"role": "assistant", "content": "Two tickets for you."},
    ]


ASKED = [message("user", text("a"))]
ANSWERED = [message("assistant", text("b"), finish_reason="stop")]
PLAIN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    "value",
    [
        span(input__messages=ASKED, output__messages=ANSWERED),
        span(input__messages=json.dumps(ASKED), output__messages=json.dumps(ANSWERED)),
        span(
            [
                {
                    "name": "gen_ai.client.inference.operation.details",
                    "attributes": {
                        "gen_ai.input.messages": ASKED,
                        "gen_ai.output.messages": ANSWERED,
                    },
                }
            ],
            operation__name="chat",
            request__model="m",
        ),
        span(
            [
                {
                    "name": "gen_ai.user.message",
                    "attributes": {"gen_ai.event.content": '{"content": "a"}'},
                },
                {
                    "name": "gen_ai.choice",
                    "attributes": {
                        "gen_ai.event.content": '{"index": 0, "message": {"content": "b"}}'
                    },
                },
            ]
        ),
        span(
            [
                {
                    "name": "gen_ai.content.prompt",
                    "attributes": {"gen_ai.prompt": '[{"role": "user", "content": "a"}]'},
                },
                {
                    "name": "gen_ai.content.completion",
                    "attributes": {"gen_ai.completion": '[{"role": "assistant", "content": "b"}]'},
                },
            ]
        ),
        span(prompt=PLAIN[:1], completion=PLAIN[1:]),
        {
            "trace_id": "t",
            "span_id": "s",
            "gen_ai.input.messages": ASKED,
            "gen_ai.output.messages": ANSWERED,
        },
        {
            "context": {"trace_id": "t", "span_id": "s"},
            "attributes": json.dumps(
                {"gen_ai.input.messages": ASKED, "gen_ai.output.messages": ANSWERED}
            ),
        },
    ],
)
def test_every_way_of_logging_tells_the_same(value):
    assert detected([value]) == FORM.name
    assert told(value).messages == PLAIN


def test_of_several_choices_the_first_is_read_and_the_others_said():
    found = told(span(input__messages=ASKED, output__messages=[*ANSWERED, *ANSWERED]))

    assert found.messages == PLAIN
    assert found.remarks == ("the model gave 2 choices; the first is read",)


def test_values_of_every_kind_lose_their_wrapper():
    value = {"a": [1, -2, 0.5, True, "x"], "b": {"c": None}}

    def wrapped(each: Any, *, snake: bool) -> dict[str, Any]:
        names = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
        if isinstance(each, list):
            inner: Any = {"values": [wrapped(x, snake=snake) for x in each]}
            name = "arrayValue"
        elif isinstance(each, dict):
            pairs = each.items()
            inner = {"values": [{"key": k, "value": wrapped(x, snake=snake)} for k, x in pairs]}
            name = "kvlistValue"
        elif each is None:
            return {}
        else:
            name, inner = names[type(each)], str(each) if type(each) is int else each
        return {name.replace("V", "_v") if snake else name: inner}

    call = {"type": "tool_call", "name": "f", "id": "1", "arguments": value}
    for snake in (False, True):
        attributes = [
            {"key": "gen_ai.input.messages", "value": wrapped(ASKED, snake=snake)},
            {
                "key": "gen_ai.output.messages",
                "value": wrapped([message("assistant", call)], snake=snake),
            },
        ]
        batch = {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {"spans": [{"traceId": "t", "spanId": "s", "attributes": attributes}]}
                    ]
                }
            ]
        }
        assert told(batch).messages[1]["tool_calls"][0]["arguments"] == value


def test_a_batch_of_two_traces_is_cut_in_two_that_hold_all():
    def spans(batch: Any) -> list[Any]:
        scopes = [scope for each in batch["resourceSpans"] for scope in each["scopeSpans"]]
        return [span for scope in scopes for span in scope["spans"]]

    (resource,) = BATCHES[0]["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    more = {**scope, "spans": [*scope["spans"], *spans(BATCHES[1])]}
    batch = {"resourceSpans": [{**resource, "scopeSpans": [more]}]}

    one, other = items(batch)

    assert spans(one.value) + spans(other.value) == more["spans"]
    assert one.value["resourceSpans"][0]["resource"] == resource["resource"]
    assert other.value["resourceSpans"][0]["scopeSpans"][0]["scope"] == scope["scope"]
    assert FORM.canonical(other).messages[-1]["content"] == "Ahoy."


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (SPANS[3], "no trajectory here: the trace has no span with gen_ai messages"),
        ({"resourceSpans": []}, "no trajectory here"),
        (span(operation__name="embeddings", input__messages=ASKED), "no trajectory here"),
        (span(operation__name="chat", request__model="m"), "the call logs no messages"),
        (span(input__messages="hello"), "should be lists of messages"),
        (
            span(input__messages=[message("user", {"type": "blob", "content": "x"})]),
            "a part of type 'blob'",
        ),
    ],
)
def test_what_is_no_trajectory_is_a_row_that_says_so(value, why):
    (item,) = items(value)

    with pytest.raises(UnusableError, match=why):
        FORM.canonical(item)


def test_a_row_is_given_back_whole():
    for item in [*items(*BATCHES), *items(*SPANS)[:2]]:
        columns = conversation_columns(item.value, FORM.canonical(item), FORM)

        assert original_row(columns) == item.value


@given(broken([*BATCHES, *SPANS]))
def test_a_broken_record_is_told_or_refused(value):
    hold(FORM, value)


@given(json_values(), json_values(), json_values())
def test_whatever_the_attributes_hold_is_told_or_refused(asked, answered, numbered):
    hold(FORM, span(input__messages=asked, output__messages=answered))
    hold(FORM, span(**{"prompt__0__role": asked, "prompt__0__tool_calls__x.1": numbered}))
    hold(FORM, span(prompt=asked, completion=answered))
    hold(
        FORM, span([{"name": "gen_ai.choice", "attributes": {"message": asked, "role": answered}}])
    )
    key = {"key": "gen_ai.input.messages", "value": numbered}
    hold(FORM, {"traceId": "t", "spanId": "s", "attributes": [key]})

"""Laws of Langfuse exports: observations in any of their spellings, scores of the same record."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import SAMPLES, broken, detected, hold, names_of, sample
from trajweight.formats.langfuse import Langfuse
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

if TYPE_CHECKING:
    from trajweight.formats import Item

FORM = Langfuse()
ROWS = sample("langfuse.jsonl")
TRACE = json.loads((SAMPLES / "langfuse_trace.json").read_text("utf-8"))


def items(*values: Any) -> list[Item]:
    return list(FORM.read([Record(n, value) for n, value in enumerate(values, 1)], {}))


def told(*values: Any) -> Any:
    return FORM.canonical(items(*values)[0])


def camel(row: dict[str, Any]) -> dict[str, Any]:
    """An observation as the API spells its keys, its texts being values."""
    names = {"trace_id": "traceId", "start_time": "startTime", "provided_model_name": "model"}
    names |= {"parent_observation_id": "parentObservationId", "tool_definitions": "toolDefinitions"}
    renamed = {names.get(key, key): value for key, value in row.items()}
    opened = {key: json.loads(renamed[key]) for key in ("input", "output")}
    return {**renamed, **opened}


def test_the_samples_are_of_this_format_and_of_no_other():
    assert detected(ROWS) == detected([TRACE]) == FORM.name
    assert {tuple(names_of(value)) for value in [*ROWS, TRACE]} == {(FORM.name,)}


def test_the_last_generation_of_a_trace_gives_the_conversation():
    assert told(*ROWS).messages == [
        {"role": "system", "content": "You tend a garden."},
        {"role": "user", "content": "Should I water the beans?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "w1", "name": "soil", "arguments": {"bed": "beans"}}],
        },
        {"role": "tool", "content": "moist", "tool_call_id": "w1"},
        {"role": "assistant", "content": "No, the soil is moist."},
    ]


def test_tools_are_those_that_an_export_names():
    assert told(*ROWS).tools == [
        {
            "type": "function",
            "function": {
                "name": "soil",
                "description": "How moist a bed is.",
                "parameters": {"type": "object", "properties": {"bed": {"type": "string"}}},
            },
        }
    ]


def test_the_trace_names_the_row_and_the_model_its_source():
    assert dict(told(*ROWS).said) == {
        "id": ("g1", "trace id"),
        "source": ("bean-1", "model of the call"),
    }


def test_the_spelling_of_the_api_tells_the_same():
    plain = [row for row in ROWS if row["trace_id"] == "g1" and row["type"] == "GENERATION"]
    page = {"data": [camel(row) for row in plain], "meta": {"page": 1}}

    assert detected([page]) == FORM.name
    assert told(page) == told(*map(camel, plain)) == told(*plain)


def test_a_trace_holds_its_observations_and_its_scores():
    one, other = items(TRACE)

    assert FORM.canonical(one).messages[-1]["content"] == "Wait for spring."
    assert FORM.canonical(other).messages[-1]["content"] == "Prune it now."
    for item in (one, other):
        assert FORM.canonical(item).said["reward"] == (1.0, "the score correct")
        assert FORM.canonical(item).said["success"] == (1, "the score correct")


def test_a_trace_of_two_conversations_is_cut_in_two():
    one, other = items(TRACE)

    assert {**one.value, "observations": TRACE["observations"]} == TRACE
    assert one.value["observations"] + other.value["observations"] == TRACE["observations"]


def test_a_trace_downloaded_from_the_page_is_the_same():
    around = {key: value for key, value in TRACE.items() if key != "observations"}
    downloaded = {"trace": around, "observations": TRACE["observations"]}

    assert detected([downloaded]) == FORM.name
    assert told(downloaded) == told(TRACE)


@pytest.mark.parametrize(
    ("scores", "reward"),
    [
        ([{"name": "a", "value": 0.5, "data_type": "NUMERIC"}], 0.5),
        ([{"name": "a", "value": 3, "data_type": "CATEGORICAL"}], None),
        ([{"name": "a", "value": 0, "dataType": "TEXT"}, {"name": "b", "value": 1}], 1.0),
        ({"a": 0.5}, 0.5),
        ({"a": [1, 0]}, 0.5),
        ("many", None),
    ],
)
def test_scores_in_the_record_are_the_reward(scores, reward):
    found = told({**ROWS[1], "scores": scores})

    assert found.said.get("reward", (None,))[0] == reward


def test_a_trace_that_only_says_its_question_and_its_answer_is_read_by_that():
    bare = {"id": "g", "input": "Why?", "output": "Because.", "scores": [], "observations": []}

    assert [turn["content"] for turn in told(bare).messages] == ["Why?", "Because."]


def test_a_row_is_given_back_whole():
    for item in [*items(*ROWS)[:2], *items(TRACE)]:
        columns = conversation_columns(item.value, FORM.canonical(item), FORM)

        assert original_row(columns) == item.value


@given(broken([*ROWS, TRACE]))
def test_a_broken_record_is_told_or_refused(value):
    hold(FORM, copy.deepcopy(value))

"""Laws of LangSmith runs: the calls of models in a tree of runs, feedback for a reward."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import broken, detected, hold, names_of, sample
from trajweight.formats.langsmith import LangSmith
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

if TYPE_CHECKING:
    from trajweight.formats import Item

FORM = LangSmith()
ROWS = sample("langsmith.jsonl")
FJORD = ROWS[:4]


def items(*values: Any) -> list[Item]:
    return list(FORM.read([Record(n, value) for n, value in enumerate(values, 1)], {}))


def told(*values: Any) -> Any:
    return FORM.canonical(items(*values)[0])


def tree() -> dict[str, Any]:
    """The runs of a trace inside its root, each named as the API names it."""
    runs = [{**run, "id": run["run_id"]} for run in FJORD]
    for run in runs:
        del run["run_id"]
    return {**runs[0], "child_runs": runs[1:]}


def test_the_samples_are_of_this_format_and_of_no_other():
    assert detected(ROWS) == FORM.name
    assert {tuple(names_of(row)) for row in ROWS} == {(FORM.name,)}


def test_the_last_call_of_a_trace_gives_the_conversation():
    assert told(*FJORD).messages == [
        {"role": "system", "content": "You explain words."},
        {"role": "user", "content": "What is a fjord?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "l1", "name": "lookup", "arguments": {"word": "fjord"}}],
        },
        {"role": "tool", "content": "a drowned valley", "tool_call_id": "l1"},
        {"role": "assistant", "content": "A drowned valley."},
    ]


def test_the_trace_its_model_its_tools_and_its_feedback_are_told():
    found = told(*FJORD)

    assert [tool["function"]["name"] for tool in found.tools] == ["lookup"]
    assert dict(found.said) == {
        "reward": (0.5, "the score correctness"),
        "id": ("r1", "trace id"),
        "source": ("lexi-2", "model of the call"),
    }


@pytest.mark.parametrize(
    ("row", "content", "model"),
    [(ROWS[4], "s, k, e, r, r, y", "lexi-1"), (ROWS[5], "b, i, g, h, t", None)],
)
def test_other_libraries_log_other_messages(row, content, model):
    found = told(row)

    assert found.messages[-1] == {"role": "assistant", "content": content}
    assert found.said.get("source", (None,))[0] == model


def test_runs_inside_runs_and_lists_of_runs_tell_the_same():
    listed = {"runs": [tree(), ROWS[4]]}

    assert detected([tree()]) == detected([listed]) == FORM.name
    assert told(tree()) == told(listed) == told(*FJORD)


def test_columns_that_hold_json_text_tell_the_same():
    keys = ("inputs", "outputs", "extra", "feedback_stats")
    texts = [{**run, **{k: json.dumps(run[k]) for k in keys if k in run}} for run in FJORD]

    assert told(*texts) == told(*FJORD)


def test_a_tree_of_two_conversations_is_cut_in_two_that_hold_all():
    whole = tree()
    other = {"messages": [{"role": "user", "content": "x"}]}
    more = {"id": "s", "run_type": "llm", "start_time": "2026-06"}
    whole["child_runs"].append({**more, "inputs": other, "outputs": {"text": "y"}})

    one, two = items(whole)

    assert FORM.canonical(two).messages[-1] == {"role": "assistant", "content": "y"}
    assert FORM.canonical(one) == told(*FJORD, {**whole["child_runs"][-1], "trace_id": "r1"})
    for key in ("inputs", "outputs"):
        both = zip(one.value["child_runs"], two.value["child_runs"], strict=True)
        kept = [a[key] if a[key] is not None else b[key] for a, b in both]
        assert kept == [run[key] for run in whole["child_runs"]]


def test_a_root_that_holds_the_messages_is_read_where_no_call_was_logged():
    messages = [{"type": "human", "content": "a"}, {"type": "ai", "content": "b"}]
    root = {"id": "r", "run_type": "chain", "inputs": {"messages": messages[:1]}}

    found = told({**root, "outputs": {"messages": messages}})

    assert [turn["content"] for turn in found.messages] == ["a", "b"]


@pytest.mark.parametrize(
    ("more", "reward"),
    [
        ({"feedback_stats": {"a": {"n": 1, "avg": 1.0}}}, 1.0),
        ({"feedback_stats": {"a": {"avg": 1.0}, "b": {"avg": 0.0}}}, None),
        ({"feedback_stats": {"a": {"avg": 1.0}, "reward": {"avg": -2}}}, -2.0),
        ({"feedback_stats": {"a": {"n": 0, "avg": None}}}, None),
        ({"feedback": [{"key": "a", "score": 0.25}]}, 0.25),
        ({"feedback_stats": "none"}, None),
    ],
)
def test_feedback_is_the_reward_where_one_is_meant(more, reward):
    assert told({**ROWS[5], **more}).said.get("reward", (None,))[0] == reward


def test_a_row_is_given_back_whole():
    for item in [*items(*ROWS), *items(tree())]:
        columns = conversation_columns(item.value, FORM.canonical(item), FORM)

        assert original_row(columns) == item.value


@given(broken([*ROWS, tree(), {"runs": [tree(), ROWS[4]]}]))
def test_a_broken_record_is_told_or_refused(value):
    hold(FORM, value)


def test_runs_inside_runs_without_end_are_kept_and_not_read():
    run: dict[str, Any] = {"id": "r", "run_type": "chain"}
    for n in range(400):
        run = {"id": str(n), "run_type": "chain", "child_runs": [run]}

    assert hold(FORM, run) == 0

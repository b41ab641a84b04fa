"""Laws of verifiers: a completion is learned from; a branch of a graph is a trajectory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.formats.rows import (
    broken,
    detected,
    given_back,
    hold,
    messages,
    names_of,
    reason,
    sample,
    told,
)
from trajweight.formats import Item, UnusableError
from trajweight.formats.verifiers import VerifiersResults, VerifiersTraces
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

RESULTS, TRACES = VerifiersResults(), VerifiersTraces()
ROWS = sample("verifiers_results.jsonl")
EPISODES = sample("verifiers_traces.jsonl")


def items(value: Any) -> list[Item]:
    return list(TRACES.read([Record(7, value)], {}))


def trace(parents: list[int | None], **more: Any) -> dict[str, Any]:
    """A trace whose nodes are assistant messages that name their own position."""
    nodes = [
        {"parent": parent, "message": {"role": "assistant", "content": str(n)}, "sampled": True}
        for n, parent in enumerate(parents)
    ]
    return {"id": "t", "task": {}, "rewards": {}, "nodes": nodes, **more}


def test_the_samples_are_of_these_formats_and_of_no_other():
    assert detected(ROWS) == RESULTS.name
    assert detected(EPISODES) == TRACES.name
    assert {tuple(names_of(row)) for row in EPISODES} == {(TRACES.name,)}
    assert names_of(ROWS[0])[0] == RESULTS.name


def test_calls_that_are_json_text_are_read():
    assert messages(ROWS[0])[2] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "k1", "name": "hint", "arguments": {"n": 1}}],
        "reasoning": "A hint may help.",
    }


def test_prompt_and_completion_may_be_text():
    assert messages(ROWS[1]) == [
        {"role": "user", "content": "What has keys and no doors?"},
        {"role": "assistant", "content": "A map."},
    ]


def test_answers_in_the_prompt_are_shown_and_not_trained_on():
    assert [turn.get("untrained") for turn in messages(ROWS[2])] == [None, True, None, None]


def test_examples_of_two_environments_are_two_tasks():
    assert [told(row).said["task"][0] for row in ROWS] == ["riddles/3", "riddles/3", "sums/3"]


def test_tools_are_those_of_the_row_or_of_its_info():
    tool = ROWS[0]["tool_defs"][0]
    row = {**ROWS[1], "info": {"oai_tools": [{"type": "function", "function": tool}]}}

    assert told(ROWS[0]).tools == told(row).tools == [{"type": "function", "function": tool}]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"completion": []}, "nothing to train on"),
        ({"completion": [{"role": "boss", "content": "x"}]}, "message 2 has role 'boss'"),
        ({"prompt": 5}, "the input of the call is a number"),
        ({"example_id": [1]}, "example_id is a list"),
    ],
)
def test_a_row_that_cannot_be_understood_is_refused(changed, why):
    assert why in reason({**ROWS[1], **changed}, RESULTS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_given_back_whole(row):
    assert given_back(row, RESULTS) == row


@given(broken(ROWS))
def test_a_broken_result_is_told_or_refused(value):
    hold(RESULTS, value)


def test_a_trace_without_branches_is_one_row_as_it_stands():
    (inside,), (alone,) = items(EPISODES[0]), items(EPISODES[2])

    assert inside.value == EPISODES[0]["traces"][0]
    assert inside.envelope == {**EPISODES[0], "traces": None}
    assert inside.number == alone.number == 7
    assert alone.value == EPISODES[2]
    assert TRACES.canonical(inside).messages == TRACES.canonical(alone).messages


def test_a_trace_says_its_weighted_reward_its_task_its_model_and_its_group():
    (item,) = items(EPISODES[0])

    assert dict(TRACES.canonical(item).said) == {
        "reward": (0.5 * 1.0 + 1.0 * 0.25, "the sum of its weighted rewards"),
        "task": ("spring-4", "task"),
        "source": ("mole-2", "model of the agent"),
        "group": ("g1", "group.id of the episode"),
    }


def test_rewards_that_were_not_given_are_unknown_and_not_zero():
    (one, *_), (other,) = items(EPISODES[1]), items(EPISODES[2])
    none = {**EPISODES[2], "rewards": {"found": None}}

    assert TRACES.canonical(one).said["reward"][0] == 0.0
    assert TRACES.canonical(other).said["reward"][0] == 0.75
    assert "reward" not in TRACES.canonical(items(none)[0]).said


def test_each_branch_is_a_row_and_what_they_share_is_trained_on_once():
    one, other, _ = items(EPISODES[1])

    assert [turn["content"] for turn in TRACES.canonical(one).messages][-1] == "It is dry."
    assert [
        (turn["content"], turn.get("untrained"))
        for turn in TRACES.canonical(other).messages
        if turn["role"] == "assistant"
    ] == [("I dig.", True), ("There is water.", None), ("Yes.", None)]
    assert TRACES.canonical(one).said["group"] == ("t2", "id of the trace")


def test_branches_together_hold_every_node_of_the_trace():
    one, other, _ = items(EPISODES[1])
    nodes = EPISODES[1]["traces"][0]["nodes"]

    assert [a or b for a, b in zip(one.value["nodes"], other.value["nodes"], strict=True)] == nodes
    assert {**one.value, "nodes": nodes} == EPISODES[1]["traces"][0]


def test_an_agent_that_is_not_to_be_trained_is_refused():
    *_, judge = items(EPISODES[1])

    with pytest.raises(UnusableError, match=r"agent\.trainable is false"):
        TRACES.canonical(judge)


def test_messages_that_no_model_gave_back_are_shown_and_not_trained_on():
    value = trace([None, 0])
    value["nodes"][0]["sampled"] = False

    (item,) = items(value)

    assert [turn.get("untrained") for turn in TRACES.canonical(item).messages] == [True, None]


@st.composite
def graphs(draw: st.DrawFn) -> list[int | None]:
    """For each node its parent, which stands before it, or none."""
    size = draw(st.integers(1, 9))
    return [draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(size)]


@given(graphs())
def test_branches_are_the_ways_from_roots_to_leaves(parents):
    def way(node: int) -> list[int]:
        parent = parents[node]
        return [node] if parent is None else [*way(parent), node]

    leaves = [node for node in range(len(parents)) if node not in parents]
    found = [TRACES.canonical(item).messages for item in items(trace(parents))]
    trained = [t["content"] for turns in found for t in turns if not t.get("untrained")]

    assert [[int(turn["content"]) for turn in turns] for turns in found] == [*map(way, leaves)]
    assert sorted(map(int, trained)) == list(range(len(parents)))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (trace([]), "the trace has no messages"),
        ({"id": "e", "task": {}, "traces": []}, "the episode has no trace"),
        ({"id": "e", "task": {}, "traces": ["x"]}, "the episode has no trace"),
        ({**trace([None]), "nodes": [{"parent": None, "message": 5}]}, "message 0 is a number"),
    ],
)
def test_what_is_no_trajectory_is_a_row_that_says_so(value, why):
    (item,) = items(value)

    with pytest.raises(UnusableError, match=why):
        TRACES.canonical(item)


def test_a_branch_is_given_back_as_it_was_cut():
    for item in (each for episode in EPISODES for each in items(episode)[:2]):
        columns = conversation_columns(item.value, TRACES.canonical(item), TRACES)

        assert original_row(columns) == item.value


@given(broken(EPISODES))
def test_a_broken_trace_is_told_or_refused(value):
    hold(TRACES, copy.deepcopy(value))

"""Laws of FireAct's results: one row a question, with its turns, its reward and its outcome."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

from tests.trajweight.formats.rows import broken, hold, sample
from trajweight.formats import Item, format_named
from trajweight.records import Record

FORM = format_named("fireact")
(RUNS,) = sample("fireact.json")


def items(value=RUNS):
    return list(FORM.read([Record(1, value)], {}))


def spoken(item: Item):
    return [(message["role"], message["content"]) for message in FORM.canonical(item).messages]


def test_every_question_is_a_row_and_its_own_task():
    found = items()

    assert [item.value for item in found] == list(RUNS.values())
    assert [item.number for item in found] == [1, 2]
    assert [FORM.canonical(item).said["task"][0] for item in found] == list(RUNS)


def test_text_is_taken_apart_at_observations_and_the_steps_after_them():
    assert spoken(items()[0]) == [
        (
            "system",
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.",
        ),
        ("user", "Which river ends at Lindmouth?"),
        ("assistant", "Thought: I should look the town up.\nAction: search[Lindmouth]"),
        (
            "user",
            "Observation: Lindmouth is a town of the north coast.\n"
            "It lies where the Linnet meets the sea.",
        ),
        ("assistant", "Thought: It is the Linnet.\nAction: finish[the Linnet]"),
        ("user", "Observation: Episode finished, reward = True"),
    ]


def test_nothing_of_the_text_is_lost():
    text = RUNS["q-11"]["traj"]

    joined = "\n".join(content for _, content in spoken(items()[0])[2:])

    assert text.endswith(joined + "\n")


def test_messages_are_read_as_they_are():
    assert spoken(items()[1]) == [(turn["role"], turn["content"]) for turn in RUNS["q-12"]["traj"]]


def test_turns_of_the_prompt_are_never_trained_on():
    shown = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (item,) = items({"q": {**RUNS["q-12"], "prompt": shown}})

    found = FORM.canonical(item).messages

    assert [message.get("untrained", False) for message in found if message["role"] != "user"] == [
        True,
        False,
    ]


def test_a_record_that_is_broken_is_one_row():
    (item,) = FORM.read([Record(1, fault="not JSON")], {})

    assert item.record.fault == "not JSON"


def test_nothing_else_is_taken_for_runs():
    others: list[Any] = [{}, [], {"a": 1}, {"a": {"traj": []}}, {**RUNS, "config": {}}]

    assert all(FORM.lacks(value) for value in others)


@settings(max_examples=100)
@given(broken([RUNS]))
def test_a_broken_document_is_refused_or_given_back(value):
    hold(FORM, value)


def test_both_runs_of_the_sample_are_usable():
    assert hold(FORM, json.loads(json.dumps(RUNS))) == 2

"""Laws of Inspect samples: what was put apart is put back, and scores are read as Inspect does."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import SAMPLES, broken, detected, hold, names_of
from trajweight.formats import Item, UnusableError
from trajweight.formats.inspect_ai import LOG, Inspect
from trajweight.records import Record
from trajweight.table import conversation_columns, original_row

FORM = Inspect()
DOCUMENT = json.loads((SAMPLES / "inspect.json").read_text("utf-8"))
HEADER = {key: value for key, value in DOCUMENT.items() if key != "samples"}


def items(document: Any, hints: dict[str, Any] | None = None) -> list[Item]:
    return list(FORM.read([Record(1, document)], hints or {}))


def told(position: int, **changed: Any) -> Any:
    """The conversation of a sample, some of its keys changed."""
    document = copy.deepcopy(DOCUMENT)
    document["samples"][position].update(changed)
    return FORM.canonical(items(document)[position])


def scored(**scores: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """The reward and the outcome that scores give, and the remarks."""
    found = told(1, scores={name: {"value": value} for name, value in scores.items()})
    reward, success = (found.said.get(what, (None,))[0] for what in ("reward", "success"))
    return reward, success, found.remarks


def test_a_log_is_a_document_with_a_row_a_sample():
    found = items(DOCUMENT)

    assert detected([DOCUMENT]) == "inspect"
    assert names_of(DOCUMENT) == ["inspect"]
    assert [item.value for item in found] == DOCUMENT["samples"]
    assert [item.number for item in found] == [1, 2, 3]
    assert all(item.envelope == {**DOCUMENT, "samples": None} for item in found)


def test_a_sample_by_itself_is_known_and_told_as_in_its_log():
    for position, sample in enumerate(DOCUMENT["samples"]):
        (item,) = items(sample, {LOG: HEADER})

        assert detected([sample]) == "inspect"
        assert FORM.canonical(item) == told(position)


def test_the_sample_is_told_turn_by_turn():
    calls = [
        {"id": "c1", "name": "tide_at", "arguments": {"hour": 9}},
        {"id": "c2", "name": "tide_at", "arguments": {"hour": 99}},
    ]

    assert told(0).messages == [
        {
            "role": "system",
            "content": "You keep the lighthouse of Ravn Point. Answer in one sentence.",
        },
        {"role": "user", "content": "Is the causeway dry at nine?"},
        {
            "role": "assistant",
            "content": "I look at the table.",
            "tool_calls": calls,
            "reasoning": "The tide table tells it.",
        },
        {
            "role": "tool",
            "content": "low water at 08:50, high water at 15:10",
            "tool_call_id": "c1",
        },
        {"role": "tool", "content": "Error: there is no hour 99", "tool_call_id": "c2"},
        {"role": "assistant", "content": "It is dry at nine."},
    ]


def test_scalars_are_of_the_sample_and_of_the_log_around_it():
    assert dict(told(0).said) == {
        "reward": (1.0, "scores.includes.value"),
        "success": (1.0, "scores.includes.value"),
        "task": ("lighthouse/tide", "eval.task and id"),
        "id": ("Ravn1tide", "uuid"),
        "source": ("local/gull-1", "eval.model"),
    }
    assert told(2).said["id"] == ("7_epoch_1", "id and epoch")
    (bare,) = items(DOCUMENT["samples"][2])
    assert FORM.canonical(bare).said["task"] == ("7", "id")
    assert FORM.canonical(bare).said["source"] == ("gull-1", "output.model")


def test_tools_are_those_of_the_calls_with_their_texts_put_back():
    (tool,) = told(0).tools

    assert tool["function"]["name"] == "tide_at"
    assert tool["function"]["description"] == "The height of the tide at an hour."
    assert tool["function"]["parameters"]["required"] == ["hour"]


def test_answers_of_the_input_are_shown_and_not_trained_on():
    assert [turn.get("untrained") for turn in told(2).messages] == [None, True, None, None]


@pytest.mark.parametrize("prefix", ["attachment://", "tc://"])
def test_texts_apart_are_put_back_wherever_they_stand(prefix):
    call = {"id": "c", "function": "f", "arguments": {"a": [f"{prefix}x"]}}
    messages = [
        {"role": "user", "content": f"{prefix}x"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": f"{prefix}x"}],
            "tool_calls": [call],
        },
    ]

    older = told(1, messages=messages, transcript={"content": {"x": "long"}, "events": []})
    newer = told(1, messages=messages, attachments={"x": "long"})

    assert older.messages == newer.messages
    assert [turn["content"] for turn in newer.messages] == ["long", "long"]
    assert newer.messages[1]["tool_calls"][0]["arguments"] == {"a": ["long"]}


def test_a_text_that_is_nowhere_stays_and_is_said():
    found = told(1, messages=[{"role": "user", "content": "attachment://no"}, *TALK[1:]])

    assert found.messages[0]["content"] == "attachment://no"
    assert found.remarks == ("attachments no are not in the log",)


TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_a_tool_of_the_provider_splits_the_answer_it_stands_in():
    use = {"type": "tool_use", "tool_type": "web_search", "id": "w", "name": "search"}
    parts = [
        {"type": "text", "text": "I search."},
        {**use, "arguments": '{"q": "x"}', "result": "found"},
        {"type": "text", "text": "There."},
    ]

    found = told(1, messages=[TALK[0], {"role": "assistant", "content": parts}])

    assert found.messages[1:] == [
        {
            "role": "assistant",
            "content": "I search.",
            "tool_calls": [{"id": "w", "name": "search", "arguments": {"q": "x"}}],
        },
        {"role": "tool", "content": "found", "tool_call_id": "w"},
        {"role": "assistant", "content": "There."},
    ]


def test_what_is_a_providers_own_or_redacted_is_left_out_and_said():
    parts = [
        {"type": "data", "data": {"k": 1}},
        {"type": "reasoning", "reasoning": "0xff", "redacted": True, "summary": "I thought."},
        {"type": "text", "text": "b"},
    ]

    found = told(1, messages=[TALK[0], {"role": "assistant", "content": parts}])

    assert found.messages[1] == {"role": "assistant", "content": "b", "reasoning": "I thought."}
    assert found.remarks == (
        "redacted thinking is not told, in messages 2",
        "data of message 2 is a provider's own; kept, not read",
    )


def test_a_user_message_that_carries_the_picture_of_a_call_is_no_result():
    user = {"role": "user", "content": "see above", "tool_call_id": ["c1"]}

    assert told(1, messages=[user, TALK[1]]).messages[0] == {"role": "user", "content": "see above"}


def test_pictures_are_refused_with_their_place():
    picture = {"type": "image", "image": "attachment://x"}

    with pytest.raises(UnusableError, match="message 1 has a part of type 'image'"):
        told(1, messages=[{"role": "user", "content": [picture]}, TALK[1]])


@pytest.mark.parametrize(
    ("value", "reward", "success"),
    [
        ("C", 1.0, 1.0),
        ("I", 0.0, 0.0),
        ("N", 0.0, 0.0),
        ("P", 0.5, None),
        ("yes", 1.0, 1.0),
        ("0.25", 0.25, None),
        (True, 1.0, 1.0),
        (False, 0.0, 0.0),
        (0.7, 0.7, None),
        (1, 1.0, None),
        ({"f1": 0.3}, 0.3, None),
        ({"only": "I"}, 0.0, 0.0),
    ],
)
def test_scores_are_read_as_inspect_reads_them(value, reward, success):
    assert scored(match=value) == (reward, success, ())


@pytest.mark.parametrize("value", ["great", {"a": 1, "b": 0}, [1, 0], "inf", "nan"])
def test_a_score_that_is_no_number_is_unknown_and_said(value):
    reward, success, remarks = scored(match=value)

    assert (reward, success) == (None, None)
    assert remarks[0].startswith("scores.match.value is ")


def test_of_several_scores_the_first_counts():
    assert scored(match=0.5, length="C")[0] == 0.5
    assert told(2).said["reward"][1] == "scores.match.value, the first of 2 scores"


def test_the_older_single_score_is_read():
    found = told(1, scores=None, score={"value": "C"})

    assert found.said["reward"] == (1.0, "score.value")


def test_a_sample_that_was_halted_is_kept_and_said():
    assert told(1, error={"message": "out of memory"}).remarks == (
        "the sample ended in an error: out of memory",
    )


@pytest.mark.parametrize("samples", [[], None, 5])
def test_a_log_without_samples_says_so(samples):
    (item,) = items({**HEADER, "samples": samples, "status": "cancelled"})

    with pytest.raises(UnusableError) as caught:
        FORM.canonical(item)

    assert str(caught.value) == ("no trajectories here: the log has no samples (status: cancelled)")


def test_a_sample_is_given_back_whole():
    for item in items(DOCUMENT):
        columns = conversation_columns(item.value, FORM.canonical(item), FORM)

        assert original_row(columns) == item.value


@given(broken([DOCUMENT, *DOCUMENT["samples"]]))
def test_a_broken_log_is_told_or_refused(value):
    hold(FORM, value)


def test_the_samples_hold():
    assert hold(FORM, DOCUMENT) == 3

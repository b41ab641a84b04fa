"""Laws of traces: calls that go on from one another are one conversation, and no span is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.formats.rows import SAMPLES
from trajweight.formats import Item, UnusableError
from trajweight.formats.branches import Marked, branches_of, with_reasoning
from trajweight.formats.langfuse import Langfuse
from trajweight.formats.scores import Score, told_by
from trajweight.reading import original_row, read_trajectories
from trajweight.records import Record

if TYPE_CHECKING:
    from trajweight.formats import Format

FORM = Langfuse()


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def talk(text: str) -> list[dict[str, Any]]:
    """Turns that say a letter each; capitals are the assistant's."""
    return [said("assistant" if letter.isupper() else "user", letter) for letter in text]


def called(n: int) -> dict[str, Any]:
    return {"id": "c", "name": "f", "arguments": {"n": n}}


def call(trace: str, text: str, n: int = 0, **more: Any) -> dict[str, Any]:
    """An observation of a call whose last turn is the answer, if it is the assistant's."""
    turns = talk(text)
    answer = turns.pop() if text[-1:].isupper() else None
    base = {"id": f"{trace}{n}", "trace_id": trace, "type": "GENERATION", "start_time": f"{n:04}"}
    return {**base, "input": turns, "output": answer, **more}


def read(values: list[Any], form: Format = FORM) -> list[Item]:
    records = [Record(number, value) for number, value in enumerate(values, start=1)]
    return list(form.read(records, {}))


def texts(items: list[Item]) -> list[str]:
    """What each row says, turns that are not trained on in brackets; the reason if refused."""
    found = []
    for item in items:
        try:
            turns = FORM.canonical(item).messages
        except UnusableError as error:
            found.append(str(error))
            continue
        said_ = (f"[{t['content']}]" if t.get("untrained") else t["content"] for t in turns)
        found.append("".join(said_))
    return found


talks = st.text("abAB", min_size=1, max_size=5)


@given(st.lists(talks, max_size=8))
def test_branches_are_the_talks_that_none_goes_on_from(spoken):
    branches = branches_of([Marked.of(talk(text)) for text in spoken])
    mains = [spoken[branch.main] for branch in branches]
    longest = [text for text in spoken if not any(o != text and o.startswith(text) for o in spoken)]

    assert mains == sorted(set(mains), key=mains.index)
    assert set(mains) == set(longest)
    assert sorted(n for branch in branches for n in branch.calls) == list(range(len(spoken)))
    assert all(
        spoken[branch.main].startswith(spoken[n]) for branch in branches for n in branch.calls
    )


@given(st.lists(talks, max_size=8))
def test_each_answer_is_trained_on_once_where_it_first_stands(spoken):
    trained: set[str] = set()
    for branch in branches_of([Marked.of(talk(text)) for text in spoken]):
        text = spoken[branch.main]
        answers = [n for n, letter in enumerate(text) if letter.isupper()]

        assert list(branch.shared) == [n for n in answers if text[: n + 1] in trained]
        trained |= {text[: n + 1] for n in answers}


def test_the_branch_that_began_first_is_first_though_it_ends_last():
    branches = branches_of([Marked.of(talk(text)) for text in ("aB", "aC", "aBcD")])

    assert [(branch.main, branch.calls) for branch in branches] == [(2, (0, 2)), (1, (1,))]


def test_calls_of_other_arguments_are_other_turns():
    one, other = ({**said("assistant", ""), "tool_calls": [called(n)]} for n in (1, 2))
    ends = (one, other, {**one, "tool_calls": [{**called(1), "id": "x"}]})
    first, second, again = (Marked.of([*talk("a"), end]) for end in ends)

    assert len(branches_of([first, second])) == 2
    assert len(branches_of([first, again])) == 1


def test_reasoning_is_taken_from_the_call_that_thought():
    thought = {**said("assistant", "B"), "reasoning": "why"}
    later = Marked.of(talk("aBcD"))

    assert with_reasoning(later, [Marked.of([*talk("a"), thought]), later])[1] == thought
    assert with_reasoning(later, [Marked.of([*talk("x"), thought]), later]) == later.turns


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        (["aB"], ["aB"]),
        (["aB", "aBcD", "aBcDeF"], ["aBcDeF"]),
        (["aBcDeF", "aB", "aBcD"], ["aBcDeF"]),  # written in any order
        (["aB", "aB"], ["aB"]),
        (["aB", "aC"], ["aB", "aC"]),
        (["aBcD", "aBeF"], ["aBcD", "a[B]eF"]),
        (["aBcD", "x"], ["aBcD", "no assistant turn has text or tool calls: nothing to train on"]),
        (["aBc", "aBcD"], ["aBcD"]),  # a call that gave nothing back, and was made again
        (["aBcD", "aBe"], ["aBcD", "every assistant turn is trained on in another branch"]),
    ],
)
def test_calls_of_a_trace_are_joined(calls, told):
    values = [call("t", text, n) for n, text in enumerate(calls)]

    found = [text.partition(" of the trace")[0] for text in texts(read(values))]

    assert found == told


def test_traces_are_told_apart_and_a_span_without_one_is_alone():
    values = [call("t", "aB", 1), call("u", "aBcD", 2), call("t", "aBeF", 3)]

    assert texts(read(values)) == ["aBeF", "aBcD"]
    assert [item.numbers for item in read(values)] == [(1, 3), ()]


def test_time_says_which_branch_is_first_and_not_the_place_in_the_file():
    values = [call("t", "aBcD", 9), call("t", "aBeF", 1)]

    assert texts(read(values)) == ["aBeF", "a[B]cD"]


@given(st.lists(st.tuples(st.sampled_from("tuv"), talks, st.sampled_from(["GENERATION", "TOOL"]))))
def test_every_span_is_in_one_row(spans):
    values = [call(trace, text, n, type=kind) for n, (trace, text, kind) in enumerate(spans)]

    items = read(values)
    rows = [value for item in items for value in (item.value if item.numbers else [item.value])]

    assert sorted(json.dumps(row) for row in rows) == sorted(json.dumps(v) for v in values)
    assert sorted(n for item in items for n in item.numbers or (item.number,)) == list(
        range(1, len(values) + 1)
    )


def test_a_call_that_cannot_be_read_costs_its_own_row():
    picture = [{"role": "user", "content": [{"type": "image_url"}]}]
    values = [call("t", "aB", 1), call("t", "aBcD", 2, input=picture)]

    assert texts(read(values)) == [
        "aB",
        "message 1 has a part of type 'image_url'; only text can be trained on",
    ]


def test_what_is_no_call_goes_with_the_first_conversation():
    tool = {"id": "x", "trace_id": "t", "type": "TOOL", "input": 1, "output": 2}

    first, second = read([call("t", "aB", 1), tool, call("t", "aC", 2)])

    assert (first.numbers, second.numbers) == ((1, 2), ())
    assert texts([first, second]) == ["aB", "aC"]


def test_a_trace_without_calls_is_told_by_what_is_around_it_or_not_at_all():
    around = call("t", "aB", type="AGENT")
    inner = call("t", "xY", type="SPAN", parent_observation_id="o")

    assert texts(read([around, inner])) == ["aB"]
    assert texts(read([inner])) == [
        "no trajectory here: the trace has no observation of type GENERATION"
    ]


def test_records_with_a_fault_or_of_another_format_stay_as_they_are():
    records = [Record(1, fault="not JSON"), Record(2, {"messages": []}), Record(3, call("t", "aB"))]

    found = list(FORM.read(records, {}))

    assert [(item.number, item.value) for item in found] == [
        (1, None),
        (2, {"messages": []}),
        (3, records[2].value),
    ]


def test_branches_of_one_trace_are_one_group():
    one, other = read([call("t", "aB", 1), call("t", "aC", 2)])
    (alone,) = read([call("t", "aB", 1)])

    assert FORM.canonical(one).said["group"] == FORM.canonical(other).said["group"]
    assert "group" not in FORM.canonical(alone).said


@pytest.mark.parametrize(
    ("file", "kept", "rejected"),
    [
        ("langfuse.jsonl", 2, 1),
        ("langsmith.jsonl", 3, 0),
        ("opentelemetry.jsonl", 2, 0),
        ("opentelemetry_spans.jsonl", 2, 1),
    ],
)
def test_a_file_of_spans_is_read_row_by_row(file, kept, rejected):
    found = read_trajectories([SAMPLES / file])
    values = [json.loads(line) for line in (SAMPLES / file).read_text("utf-8").splitlines()]
    table = found.table.to_dicts()

    assert (len(table), len(found.rejected)) == (kept, rejected)
    assert found.n_read == kept + rejected
    for row in table:
        numbers = json.loads(row["origin_rows"] or "null")
        whole = [values[n - 1] for n in numbers] if numbers else values[row["origin_row"] - 1]
        assert original_row(row) == whole


@pytest.mark.parametrize(
    ("scores", "told", "remarks"),
    [
        ([], {}, ()),
        ([Score("a", 2)], {"reward": (2.0, "the score a")}, ()),
        ([Score("a", "good"), Score("b", None)], {}, ()),
        (
            [Score("a", True, is_outcome=True)],
            {"reward": (1.0, "the score a"), "success": (True, "the score a")},
            (),
        ),
        ([Score("a", 1), Score("a", 2)], {"reward": (1.5, "the mean of 2 scores named a")}, ()),
        ([Score("a", 1), Score("reward", 3)], {"reward": (3.0, "the score reward")}, ()),
        ([Score("a", 1), Score("b", 2)], {}, ("scores are named a, b; none is the reward",)),
        (
            [Score("a", 1e308), Score("a", 1e308)],
            {"reward": (1e308, "the mean of 2 scores named a")},
            (),
        ),
    ],
)
def test_scores_tell_a_reward_where_one_is_meant(scores, told, remarks):
    assert told_by(scores) == (told, remarks)

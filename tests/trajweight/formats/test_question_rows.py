"""Laws of rows with a question and its answer: Alpaca's, and ms-swift's query and response."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import broken, given_back, hold, messages, reason, sample, told
from trajweight.formats import format_named

ALPACA, QUERY = format_named("alpaca"), format_named("query-response")
ROWS = {ALPACA: sample("alpaca.jsonl"), QUERY: sample("query_response.jsonl")}
CASES = [(form, row) for form, rows in ROWS.items() for row in rows]


def spoken(row):
    return [(message["role"], message["content"]) for message in messages(row)]


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "a", "input": "b", "output": "x"}, "a\nb"),
        ({"instruction": "a", "input": "", "output": "x"}, "a"),
        ({"instruction": "", "input": "b", "output": "x"}, "b"),
        ({"instruction": "a", "output": "x"}, "a"),
        ({"instruction": "a", "context": "b", "response": "x"}, "a\nb"),
        ({"query": "a", "response": "x"}, "a"),
    ],
)
def test_what_is_asked_is_a_user_turn_and_what_is_put_out_is_its_answer(row, question):
    assert spoken(row) == [("user", question), ("assistant", "x")]


def test_history_and_system_text_come_before():
    assert spoken(sample("alpaca.jsonl")[1]) == [
        ("system", "You know an invented country by heart."),
        ("user", "Which river is the longest?"),
        ("assistant", "The Linnet."),
        ("user", "And which town lies at its mouth?"),
        ("assistant", "Lindmouth."),
    ]


@pytest.mark.parametrize("form", ROWS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("history", "n_turns"),
    [
        (None, 0),
        ("", 0),
        ([], 0),
        ([["a", "b"]], 2),
        ([["a", None], [None, "b"]], 2),
        ('[["a", "b"], ["c", "d"]]', 4),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], 2),
    ],
)
def test_history_is_pairs_or_turns(form, history, n_turns):
    row = {"history": history, "instruction": "q", "output": "x", "query": "q", "response": "x"}

    assert len(messages(row, form)) == n_turns + 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "a", "output": ["x"]}, "output is a list, not text"),
        ({"instruction": {"a": 1}, "output": "x"}, "instruction is an object, not text"),
        ({"query": "a", "response": 5}, "response is a number, not text"),
        ({"query": "a", "response": "x", "history": 5}, "history is a number, not a list"),
        ({"query": "a", "response": "x", "history": "[["}, "history is text, but not JSON"),
        (
            {"query": "a", "response": "x", "history": [["b"]]},
            "history 1 is a list, not a question",
        ),
        ({"query": "a", "response": "x", "history": [["b", 1]]}, "history 1 is a number, not text"),
        ({"query": "a", "response": ""}, "nothing to train on"),
    ],
)
def test_what_is_no_text_is_refused(row, said):
    assert said in reason(row)


def test_an_output_with_observations_is_remarked():
    output = "Thought: look\nAction: look[]\nObservation: a door\nAction: finish[]"

    (said,) = told({"instruction": "a", "output": output}).remarks

    assert said.startswith("the output holds 1 lines that begin with Observation")


def test_a_label_tells_the_outcome():
    assert told({"instruction": "a", "output": "x", "label": False}).said == {
        "success": (False, "label")
    }


@pytest.mark.parametrize(("form", "row"), CASES, ids=range(len(CASES)))
def test_every_sample_row_is_given_back(form, row):
    assert json.dumps(given_back(row, form)) == json.dumps(row)


@pytest.mark.parametrize("form", ROWS, ids=lambda form: form.name)
def test_a_broken_row_is_refused_or_given_back(form):
    @settings(max_examples=100)
    @given(broken(ROWS[form]))
    def law(row):
        hold(form, row)

    law()

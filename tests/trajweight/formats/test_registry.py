"""Laws of the registry: every format is known by its name, and its rows by what they hold."""

from __future__ import annotations

import pytest

from tests.trajweight.formats.rows import ASK, REPLY, detected, form_of, names_of, sample
from trajweight.errors import ConfigError
from trajweight.formats import format_named, formats, nearest


def test_names_are_unique_and_find_their_format():
    assert [format_named(form.name) for form in formats()] == list(formats())


def test_a_name_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(ConfigError) as caught:
        format_named("chatml")

    assert "no format is called 'chatml'" in str(caught.value)
    assert "messages" in caught.value.hint


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [ASK, REPLY]}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"messages": None, "conversations": []}, "sharegpt"),
        ({"messages": [], "conversations": []}, "messages"),
        ({"conversation": [ASK, REPLY]}, "conversation"),
        ({"prompt": [ASK], "completion": [REPLY]}, "prompt-completion"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"messages": [ASK], "chosen": REPLY, "rejected": REPLY}, "preference"),
        ({"messages": [ASK, REPLY], "chosen": REPLY, "rejected": REPLY}, "messages"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"query": "a", "response": "b"}, "query-response"),
        ({"input": "a", "output": "b", "score": 1, "step": 2, "gts": None}, "verl"),
    ],
)
def test_format_is_known_by_content(row, name):
    assert form_of(row).name == name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("messages.jsonl", "messages"),
        ("swift.jsonl", "messages"),
        ("prompt_completion.jsonl", "prompt-completion"),
        ("sharegpt.jsonl", "sharegpt"),
        ("agentgym.jsonl", "sharegpt"),
        ("conversation.jsonl", "conversation"),
        ("query_response.jsonl", "query-response"),
        ("alpaca.jsonl", "alpaca"),
        ("verl.jsonl", "verl"),
        ("glaive.jsonl", "glaive"),
        ("fireact.json", "fireact"),
    ],
)
def test_every_row_of_a_sample_is_of_its_format_and_of_no_other(file, name):
    rows = sample(file)

    assert detected(rows) == name
    assert {tuple(names_of(row)) for row in rows} == {(name,)}


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, [ASK, REPLY], {"rows": []}])
def test_what_holds_no_conversation_is_of_no_format(value):
    assert names_of(value) == []


def test_the_nearest_format_lacks_least():
    near = nearest({"prompt": [ASK], "answer": [REPLY]})

    assert all(len(lacks) == 1 for _, lacks in near)

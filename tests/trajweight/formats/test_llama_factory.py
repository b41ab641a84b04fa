"""Laws of LLaMA-Factory folders: a row is read by the names that the index gives its parts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import (
    ASK,
    REPLY,
    SAMPLES,
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
from trajweight.formats import format_named
from trajweight.formats.llama_factory import LlamaFactory

INDEX = json.loads((SAMPLES / "llama_factory" / "dataset_info.json").read_text("utf-8"))
FILES = {name: sample(f"llama_factory/{entry['file_name']}") for name, entry in INDEX.items()}


def hints_of(entry):
    """What a container tells of a file whose entry this is."""
    return {
        "columns": entry.get("columns", {}),
        "tags": entry.get("tags", {}),
        "formatting": entry.get("formatting", "alpaca"),
    }


FORMS = {name: LlamaFactory(hints_of(entry)) for name, entry in INDEX.items()}
CASES = [(name, row) for name, rows in FILES.items() for row in rows]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_its_entry_describes_it(name):
    assert detected(FILES[name], hints_of(INDEX[name])) == "llama-factory"


@pytest.mark.parametrize("name", ["weather_chats", "weather_answers"])
def test_without_the_index_nothing_knows_the_rows(name):
    assert detected(FILES[name]) is None
    assert names_of(FILES[name][0]) == []


def test_an_index_that_is_not_of_this_file_is_not_followed():
    assert detected([{"messages": [ASK, REPLY]}], hints_of(INDEX["weather_chats"])) == "messages"


@pytest.mark.parametrize("hints", [{}, {"folder": "tau2"}, {"formatting": "other"}])
def test_hints_of_another_kind_change_nothing(hints):
    assert detected([{"messages": [ASK, REPLY]}], hints) == "messages"


def test_tags_name_the_speakers_and_columns_the_rest():
    found = told(FILES["weather_chats"][0], FORMS["weather_chats"])

    assert found.messages == [
        {"role": "system", "content": "You keep a lighthouse."},
        {"role": "user", "content": "May I sail tonight?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "", "name": "wind", "arguments": {}}],
        },
        {"role": "tool", "content": "9, north"},
        {"role": "assistant", "content": "Stay in harbour, it blows a gale."},
    ]
    assert [tool["name"] for tool in found.tools] == ["wind"]


def test_columns_name_the_parts_of_an_alpaca_row_and_its_label():
    found = told(FILES["weather_answers"][0], FORMS["weather_answers"])

    assert [(message["role"], message["content"]) for message in found.messages] == [
        ("user", "Are you awake?"),
        ("assistant", "Always."),
        ("user", "What is the weather at this place?\nNorport"),
        ("assistant", "Rain until noon."),
    ]
    assert found.said == {"success": (True, "liked")}


def test_weights_and_parts_are_read_as_in_messages():
    for row in FILES["weather_weighted"]:
        assert told(row, FORMS["weather_weighted"]) == told(row)


def test_an_entry_without_columns_has_the_usual_names():
    alpaca, sharegpt = (
        LlamaFactory({"columns": {}, "tags": {}, "formatting": formatting})
        for formatting in ("alpaca", "sharegpt")
    )
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    wanted = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    assert messages({"instruction": "a", "input": "", "output": "b"}, alpaca) == wanted
    assert messages({"conversations": turns}, sharegpt) == wanted


def test_a_column_that_an_entry_leaves_out_is_not_read():
    form = LlamaFactory({"columns": {"prompt": "instruction", "response": "output"}})

    found = messages({"instruction": "a", "input": "b", "system": "c", "output": "d"}, form)

    assert [message["content"] for message in found] == ["a", "d"]


def test_a_tag_that_two_speakers_share_is_the_assistants():
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
    tags |= {"assistant_tag": "assistant", "function_tag": "assistant"}
    form = LlamaFactory({"formatting": "openai", "columns": {"messages": "m"}, "tags": tags})

    assert messages({"m": [ASK, REPLY]}, form) == [ASK, REPLY]


def test_rows_with_two_answers_are_refused():
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    form = LlamaFactory({"columns": columns})

    assert form.lacks({"q": "a", "good": "b", "bad": "c"}) == ()
    assert "a preference row" in reason({"q": "a", "good": "b", "bad": "c"}, form)


@pytest.mark.parametrize(("name", "row"), CASES, ids=range(len(CASES)))
def test_every_sample_row_is_given_back_without_the_index(name, row):
    assert json.dumps(given_back(row, FORMS[name])) == json.dumps(row)
    assert format_named("llama-factory").restored(told(row, FORMS[name])) == {}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_row_is_refused_or_given_back(name):
    @settings(max_examples=100)
    @given(broken(FILES[name]))
    def law(row):
        hold(FORMS[name], row)

    law()


@given(broken([hints_of(entry) for entry in INDEX.values()]))
def test_hints_that_are_broken_break_nothing(hints):
    hints = hints if isinstance(hints, dict) else {}

    detected([{"messages": [ASK, REPLY]}], hints)
    hold(LlamaFactory(hints), FILES["weather_chats"][0])

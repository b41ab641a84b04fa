"""Laws of --map: the conversation is read from where the user says it stands."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings

from tests.trajweight.formats.rows import (
    ASK,
    REPLY,
    broken,
    given_back,
    hold,
    messages,
    names_of,
    reason,
    told,
)
from trajweight.errors import ConfigError
from trajweight.formats import format_named
from trajweight.formats.mapped import Mapped
from trajweight.reading import Layout

FORM = Mapped("chat.0.turns", "chat.0.api")
TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROW = {"chat": [{"turns": [ASK, REPLY], "api": [{"name": "f"}]}], "tools": "other", "n": 1}


@pytest.mark.parametrize(
    "turns",
    [[ASK, REPLY], TURNS, json.dumps(TURNS), [{"human": "Hi", "assistant": "Hello"}]],
)
def test_turns_at_the_path_are_read_in_any_spelling(turns):
    row = {"chat": [{"turns": turns, "api": '[{"name": "f"}]'}]}

    assert messages(row, FORM) == [ASK, REPLY]
    assert told(row, FORM).tools == [{"name": "f"}]


def test_tools_stand_under_their_usual_name_where_no_path_is_said():
    assert told({"a": {"b": [ASK, REPLY]}, "tools": [{"name": "g"}]}, Mapped("a.b")).tools == [
        {"name": "g"}
    ]


@pytest.mark.parametrize("row", [{}, {"chat": []}, {"chat": [{"turns": None}]}, [ASK], None])
def test_a_row_without_anything_there_lacks_it(row):
    assert FORM.lacks(row) == ("messages at chat.0.turns",)


def test_what_stands_there_must_be_turns():
    assert reason({"a": 5}, Mapped("a")) == "a is a number, not a list of turns"


def test_a_mapped_row_is_given_back():
    assert given_back(ROW, FORM) == ROW


def test_the_format_in_the_registry_takes_no_row_by_itself():
    assert names_of(ROW) == []
    assert format_named("mapped").lacks(ROW)


def test_a_layout_makes_the_format_from_what_is_mapped():
    form = Layout.of("auto", ["messages=chat.0.turns", "tools=chat.0.api", "reward=n"]).form

    assert form is not None
    assert told(ROW, form) == told(ROW, FORM)
    assert Layout.of("mapped", ["messages=a"]).form is not None
    assert Layout.of("auto", ["reward=n"]).form is None


@pytest.mark.parametrize(
    ("name", "mapped", "said"),
    [
        ("auto", ["tools=a"], "tools are mapped only beside messages"),
        ("sharegpt", ["messages=a"], "makes a format of its own, not 'sharegpt'"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(name, mapped, said):
    with pytest.raises(ConfigError, match=said):
        Layout.of(name, mapped)


def test_the_format_can_be_handed_to_another_process():
    copy = pickle.loads(pickle.dumps(FORM))  # as multiprocessing does

    assert told(ROW, copy) == told(ROW, FORM)


@settings(max_examples=100)
@given(broken([ROW, {**ROW, "chat": [{"turns": TURNS, "api": None}]}]))
def test_a_broken_row_is_refused_or_given_back(row):
    hold(FORM, row)

"""Laws of a trajectory on a terminal: all of it is there, in the width, and nothing acts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.analysis.hostile import ATTACKS
from trajweight.cli._console import visible
from trajweight.cli._trajectory_view import row_facts, trajectory_lines, turn_starts, wrapped

CALL = {"name": "look", "arguments": {"at": "the map"}, "id": "c1"}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "go\n  on"},
    {"role": "assistant", "content": "shown", "untrained": True},
    {"role": "assistant", "content": "well", "reasoning": "thinking", "tool_calls": [CALL]},
    {"role": "tool", "content": "a wall", "tool_call_id": "c1"},
    {"role": "tool", "content": "?", "tool_call_id": "c9"},
]
STANDING = {"weight": 1.25, "percentile": 61.0, "split": "train", "n_tokens": 1200}
ROW = {
    "source": "good",
    "origin": "synthetic",
    "n_turns": 6,
    "n_tool_calls": 1,
    "n_chars": 4321,
    "reward": 0.5,
    "success": False,
    "task_id": "t1",
    "group_id": None,
    "problems": "open-call",
    "origin_path": "a.jsonl",
    "origin_row": 7,
    "origin_rows": None,
    "origin_format": "messages",
}


def shown(messages: list[dict[str, Any]], *, width: int = 60, most: int = 10_000, **row: Any):
    whole = {"traj_id": "t", "tools_json": None, "extra_json": "{}", **row}
    whole["messages_json"] = json.dumps(messages)
    return trajectory_lines(whole, {}, width=width, most=most)


def texts(lines: Any) -> list[str]:
    return [line.text for line in lines]


def test_turns_stand_in_order_with_role_reasoning_calls_and_results():
    assert texts(shown(MESSAGES)) == [
        "id       t",
        "",
        "1 system",
        "  be kind",
        "",
        "2 user",
        "  go",
        "    on",
        "",
        "3 assistant - context only, not in the loss",
        "  shown",
        "",
        "4 assistant - in the loss",
        "| reasoning:",
        "| thinking",
        "| well",
        "| calls look",
        '| {"at":"the map"}',
        "",
        "5 tool - result of look",
        "  a wall",
        "",
        "6 tool",
        "  ?",
    ]


def test_only_the_lines_of_turns_in_the_loss_are_marked_so():
    lines = shown(MESSAGES)

    trained = [number for number, line in enumerate(lines) if line.is_trained]
    assert trained == list(range(12, 18))
    assert turn_starts(lines) == [2, 5, 9, 12, 19, 22]


def test_tools_and_the_rest_of_the_row_are_told():
    tools = json.dumps([{"type": "function", "function": {"name": "look"}}, {"name": "go"}, {}])

    lines = texts(shown([], tools_json=tools, extra_json='{"quality":1,"messages":null}'))

    assert lines == ["id       t", "tools    look, go, ?", "", 'row      {"quality":1}']


def test_what_is_beyond_the_limit_is_counted():
    messages = [{"role": "user", "content": "x" * 30}, {"role": "assistant", "content": "y" * 30}]

    lines = texts(shown(messages, most=40))

    assert "  " + "x" * 30 in lines
    assert "| " + "y" * 10 in lines
    assert lines[-1] == "20 characters more are not shown."
    assert not any("more are not" in text for text in texts(shown(messages, most=60)))


def test_the_facts_say_where_the_weight_stands_and_where_the_row_comes_from():
    more = {"base_nll": 2.5, "n_assistant_tokens": 37, "weight_low": 1.0, "weight_high": 1.5}

    assert row_facts(ROW, STANDING, more, n_learned=5000) == {
        "weight": "1.25, percentile 61.0 of 5,000 learned weights; "
        "by the heads of the ensemble 1 to 1.5",
        "source": "good, synthetic, split train",
        "size": "6 turns, 1 tool calls, 4,321 characters, 1,200 tokens, "
        "of which 37 are in the loss",
        "reward": "0.5",
        "success": "no",
        "loss": "2.5000 nats a token, by the base model",
        "task": "t1",
        "problems": "open-call",
        "file": "a.jsonl:7 (messages)",
    }


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        ({"weight": None, "percentile": None, "split": "dev"}, "none, as the row is of split dev"),
        ({"percentile": None}, "1.25, as all real training rows have"),
        ({"percentile": 99.97}, "1.25, percentile 99.9 of 3 learned weights"),
    ],
)
def test_a_weight_that_was_not_learned_has_no_percentile_and_none_reaches_100(standing, told):
    assert row_facts(ROW, STANDING | standing, {}, n_learned=3)["weight"] == told


@given(st.text("a b\té日\u0301☁\ufe0f\n\x1b\u202e\r", max_size=40), st.integers(2, 12))
def test_no_line_is_too_wide_and_nothing_but_spaces_is_lost(text, width):
    lines = list(wrapped(text, width))

    assert all(cell_len(line) <= width for line in lines)
    whole = "\n".join(line.removesuffix("\r") for line in text.split("\n"))
    wanted = "".join(visible(line.expandtabs(4)) for line in whole.split("\n"))
    assert "".join(lines).replace(" ", "") == wanted.replace(" ", "")
    assert all(visible(line) == line for line in lines)


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_any_text_of_a_row_can_act_on_a_terminal(attack):
    call = {"name": attack, "arguments": {attack: attack}, "id": attack}
    messages = [
        {"role": "assistant", "content": attack, "reasoning": attack, "tool_calls": [call]},
        {"role": "tool", "content": attack, "tool_call_id": attack},
    ]
    tools = json.dumps([{"name": attack}])
    whole = {"traj_id": attack, "tools_json": tools, "extra_json": json.dumps({attack: attack})}
    whole["messages_json"] = json.dumps(messages)

    lines = trajectory_lines(whole, {"source": attack}, width=70)

    assert all(line.text == visible(line.text) and cell_len(line.text) <= 70 for line in lines)
    assert visible(attack) in "".join(line.text.removeprefix("| ") for line in lines)

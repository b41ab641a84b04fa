from __future__ import annotations

import ast
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.formats import Item, UnusableError, format_named
from trajweight.jsontext import decode, encode
from trajweight.records import Record
from trajweight.trainers import DataFile, Example, Plan, target_named
from trajweight.trainers.services import function_tools

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.trainers import Mode

SERVICES = ("fireworks", "together", "openai", "tinker")
HOSTED = SERVICES[:3]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def example(messages: list[dict[str, Any]], tools: Any = None) -> Example:
    """A trajectory of canonical messages, of weight 2 and, by the token, 3."""
    texts = {
        "messages_json": encode(messages),
        "tools_json": None if tools is None else encode(tools),
        "extra_json": "{}",
        "origin_format": "messages",
        "traj_id": "a",
    }
    return Example(texts, 2.0, 3.0)


def turn(role: str, content: str = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str = "f", call_id: str = "c1", **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "name": name, "arguments": arguments}


def plan(mode: Mode, n_files: int = 1, n_rows: int = 50, model: str = "org/model") -> Plan:
    names = (
        ["data/train.jsonl"]
        if n_files == 1
        else [f"data/epoch-{i:03}.jsonl" for i in range(n_files)]
    )
    data = tuple(DataFile(name, n_rows, epoch=epoch) for epoch, name in enumerate(names))
    return Plan(mode, data, model, n_rows, 12.5, seed=7)


said = st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Conversations by the rules, with tool calls, reasoning and flags; one reply is trained."""
    turns = [turn("system", draw(said))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        turns.append(turn("user", draw(said)))
        if draw(st.booleans()):
            arguments = draw(st.dictionaries(st.text(max_size=4), values, max_size=2))
            calls = [
                {"id": f"c{number}-{i}", "name": "f", "arguments": arguments} for i in range(2)
            ]
            turns.append(turn("assistant", draw(said | st.just("")), tool_calls=calls))
            turns += [
                turn("tool", draw(st.text(max_size=9)), tool_call_id=each["id"]) for each in calls
            ]
        reply = turn("assistant", draw(said))
        if draw(st.booleans()):
            reply["reasoning"] = draw(said)
        if number and draw(st.booleans()):
            reply["untrained"] = True
        turns.append(reply)
    return turns


@pytest.mark.parametrize("name", SERVICES)
@settings(max_examples=40, deadline=None)
@given(conversations())
def test_an_exported_row_reads_back_as_the_same_conversation(
    name: str, turns: list[dict[str, Any]]
) -> None:
    row = decode(json.dumps(target_named(name).row(example(turns, TOOLS), "resample")))

    found = format_named("messages").canonical(Item(row, 1, Record(1, row)))

    kept = [dict(each) for each in turns]
    while name == "tinker" and kept[-1]["role"] != "assistant":
        kept.pop()
    if name == "openai":
        for each in kept:
            each.pop("reasoning", None)
    assert found.messages == kept
    assert found.tools == TOOLS
    assert "weight" not in row


@pytest.mark.parametrize(("name", "weight"), [("fireworks", 3.0), ("tinker", 2.0)])
def test_native_rows_carry_the_weight_that_the_loss_wants(name: str, weight: float) -> None:
    target = target_named(name)

    row = target.row(example([turn("user"), turn("assistant")]), "native")

    assert target.modes[0] == "native"
    assert row["weight"] == weight


@pytest.mark.parametrize("name", HOSTED)
def test_only_replies_that_may_not_be_trained_on_have_weight_zero(name: str) -> None:
    turns = [turn("user"), turn("assistant", untrained=True), turn("user"), turn("assistant")]

    messages = target_named(name).row(example(turns), "filter")["messages"]

    assert [message.get("weight") for message in messages] == [None, 0, None, None]
    assert all(type(each["weight"]) is int for each in messages if "weight" in each)


ANSWER = turn("tool", tool_call_id="c1")
BROKEN = {
    "no reply to train on": [turn("user"), turn("assistant", untrained=True)],
    "a system turn that is not the first": [turn("user"), turn("system"), turn("assistant")],
    "a reply that says nothing": [turn("user"), turn("assistant", " "), turn("assistant")],
    "a tool result that answers no call before it": [turn("user"), ANSWER, turn("assistant")],
    "tool calls without an id of their own": [
        turn("user"),
        turn("assistant", tool_calls=[call(), call()]),
        turn("assistant"),
    ],
}


@pytest.mark.parametrize("name", HOSTED)
@pytest.mark.parametrize("reason", BROKEN)
def test_a_row_that_a_service_would_refuse_stays_out(name: str, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        target_named(name).row(example(BROKEN[reason]), "filter")


def test_a_result_after_another_turn_of_the_user_answers_nothing() -> None:
    turns = [turn("user"), turn("assistant", tool_calls=[call()]), turn("user"), ANSWER]

    with pytest.raises(UnusableError, match="answers no call"):
        target_named("fireworks").row(example([*turns, turn("assistant")]), "native")


def test_openai_wants_every_call_answered_but_the_last() -> None:
    openai = target_named("openai")
    asked = [turn("user"), turn("assistant", "", tool_calls=[call()])]

    assert "content" not in openai.row(example(asked), "filter")["messages"][1]
    with pytest.raises(UnusableError, match="a tool call without a result"):
        openai.row(example([*asked, turn("user"), turn("assistant")]), "filter")
    both = [turn("user"), turn("assistant", tool_calls=[call(), call(call_id="c2")]), ANSWER]
    with pytest.raises(UnusableError, match="a tool call without a result"):
        openai.row(example([*both, turn("assistant")]), "filter")


@pytest.mark.parametrize("name", ["so long " * 9, "a.b", "é", ""])
def test_openai_takes_names_of_tools_by_its_pattern_only(name: str) -> None:
    turns = [turn("user"), turn("assistant", tool_calls=[call(name)])]

    with pytest.raises(UnusableError, match="a tool whose name"):
        target_named("openai").row(example(turns), "filter")


def test_openai_takes_128_tools_at_most_and_tells_what_it_leaves_out() -> None:
    openai = target_named("openai")
    tools = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]
    thought = example([turn("user"), turn("assistant", reasoning="hm")])

    with pytest.raises(UnusableError, match="more than 128 tools"):
        openai.row(example([turn("user"), turn("assistant")], tools), "filter")
    assert openai.remark(thought, "filter") == "had reasoning, which OpenAI does not read"
    assert not openai.remark(example([turn("user"), turn("assistant")]), "filter")


@pytest.mark.parametrize(
    "turns",
    [
        [turn("user"), turn("user"), turn("assistant")],
        [turn("user"), turn("assistant"), turn("assistant")],
        [turn("assistant"), turn("user"), turn("assistant")],
    ],
)
def test_together_wants_speakers_to_take_turns_from_the_user_on(
    turns: list[dict[str, Any]],
) -> None:
    with pytest.raises(UnusableError):
        target_named("together").row(example(turns), "filter")


def test_tools_are_told_as_functions_however_they_were_written() -> None:
    plain = {"name": "f", "description": "d", "input_schema": {"type": "object"}}

    assert function_tools([plain, TOOLS[0]]) == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
        },
        TOOLS[0],
    ]
    with pytest.raises(UnusableError, match="tool 2 has no name"):
        function_tools([plain, {"type": "web_search"}])


@pytest.mark.parametrize("name", ["together", "openai", "tinker"])
@pytest.mark.parametrize("mode", ["resample", "filter", "native"])
def test_scripts_are_python_that_names_the_data_and_the_model(name: str, mode: Mode) -> None:
    target = target_named(name)
    if mode not in target.modes:
        assert target.refused[mode].nearest in target.modes
        return
    made = plan(mode, n_files=3 if mode == "resample" else 1, model='a "quoted" \\ model')

    tree = ast.parse(target.files(made)["train.py"])

    set_to = {
        each.targets[0].id: ast.literal_eval(each.value)
        for each in tree.body
        if isinstance(each, ast.Assign)
        and isinstance(each.targets[0], ast.Name)
        and isinstance(each.value, ast.Constant | ast.List)
    }
    assert set_to["MODEL"] == made.model
    assert set_to["FILES"] == [file.name for file in made.data]
    assert set_to["SEED"] == 7


def test_the_script_for_tinker_divides_by_length_only_where_rows_carry_weights() -> None:
    tinker = target_named("tinker")

    native, copies = (tinker.files(plan(mode))["train.py"] for mode in ("native", "resample"))

    assert 'default="sequence-mean"' in native
    assert "MEAN_TOKENS = 12.5" in native
    assert "shuffle(rows)" in native
    assert 'default="token-weighted"' in copies
    assert "shuffle" not in copies


def test_the_script_for_fireworks_is_shell_that_sends_every_file(tmp_path: Path) -> None:
    text = target_named("fireworks").files(plan("resample", 2, model="a'b $HOME"))["train.sh"]
    (tmp_path / "data").mkdir()
    for epoch in range(2):
        (tmp_path / f"data/epoch-{epoch:03}.jsonl").write_text(f"{epoch}\n")
    firectl = tmp_path / "firectl"
    firectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> "$0.log"\n')
    firectl.chmod(0o755)
    (tmp_path / "train.sh").write_text(text)

    subprocess.run(
        ["bash", "train.sh"], cwd=tmp_path, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )

    told = (tmp_path / "firectl.log").read_text().splitlines()
    assert (tmp_path / "data/all.jsonl").read_text() == "0\n1\n"
    assert told[:4] == ["dataset", "create", "trajweight-rows", "data/all.jsonl"]
    assert told[told.index("--base-model") + 1] == "a'b $HOME"
    assert told[told.index("--epochs") + 1] == "1"


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_told_fits_the_mode_and_what_was_verified(name: str) -> None:
    target = target_named(name)
    for mode in target.modes:
        told = target.told(plan(mode))
        assert told.is_exact == (name == "tinker" and mode == "native")
        assert told.command
        assert told.acts
    assert set(target.modes).isdisjoint(target.refused)
    assert yaml.safe_load(encode(list(target.checked))) == list(target.checked)


@pytest.mark.parametrize(("name", "least"), [("fireworks", 3), ("openai", 10)])
def test_too_few_rows_for_a_service_are_told(name: str, least: int) -> None:
    target = target_named(name)
    words = f"no fewer than {least} rows"

    assert any(words in trap for trap in target.told(plan("filter", n_rows=least - 1)).traps)
    assert not any(words in trap for trap in target.told(plan("filter", n_rows=least)).traps)

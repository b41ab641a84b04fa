from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

import trajweight.adapters
from tests.trajweight.trainers.dialogues import (
    TOOLS,
    Message,
    dialogues,
    example,
    plan,
    turn,
    written,
)
from trajweight.formats import UnusableError
from trajweight.trainers import target_named

SWIFT = target_named("ms-swift")


def read(row: dict[str, Any]) -> list[Message]:
    """Messages of a row, calls back in the reply that makes them and thoughts taken out."""
    turns: list[Message] = []
    for message in row["messages"]:
        if message["role"] == "tool_call":
            if turns[-1]["role"] != "assistant":
                turns.append({"role": "assistant", "content": ""})
            turns[-1].setdefault("calls", []).append(json.loads(message["content"]))
            turns[-1]["trained"] = message["loss"]
            continue
        made = {"role": message["role"], "content": message["content"]}
        if made["role"] == "assistant":
            made["trained"] = message["loss"]
            thought, closing, rest = made["content"].partition("\n</think>\n\n")
            if closing:
                made |= {"content": rest, "reasoning": thought.removeprefix("<think>\n")}
        turns.append(made)
    return turns


def told(turns: list[Message]) -> list[Message]:
    """The same of canonical messages, the results of a reply in the order of its calls."""
    made: list[Message] = []
    waiting: list[str] = []
    results: dict[str, Message] = {}
    for message in turns:
        one = {"role": message["role"], "content": message["content"]}
        if message["role"] == "tool":
            results[message["tool_call_id"]] = one
            if results.keys() == set(waiting):
                made += [results[name] for name in waiting]
                results = {}
            continue
        if message["role"] == "assistant":
            waiting = [call["id"] for call in message.get("tool_calls", ())]
            one["trained"] = not message.get("untrained", False)
            one |= {key: message[key] for key in ("reasoning",) if key in message}
            if waiting:
                calls = message["tool_calls"]
                one["calls"] = [{"name": c["name"], "arguments": c["arguments"]} for c in calls]
        made.append(one)
    return made


@given(dialogues(shuffles_results=True))
def test_a_row_reads_back_as_the_conversation_with_results_in_the_order_of_calls(
    turns: list[Message],
) -> None:
    row = written(SWIFT.row(example(turns, TOOLS), "native"))

    assert read(row) == told(turns)
    assert json.loads(row["tools"]) == TOOLS


@given(dialogues())
def test_every_reply_and_call_weighs_the_token_weight_and_nothing_else_does(
    turns: list[Message],
) -> None:
    row = SWIFT.row(example(turns, weight=0.4), "native")

    for message in row["messages"]:
        is_said = message["role"] in ("assistant", "tool_call")
        assert message.get("loss_scale") == (pytest.approx(0.6) if is_said else None)


@pytest.mark.parametrize("mode", ["resample", "buckets", "filter"])
def test_rows_of_other_modes_carry_no_weight_but_their_flags(mode: Any) -> None:
    turns = [turn("user"), turn("assistant", untrained=True), turn("user"), turn("assistant")]

    row = SWIFT.row(example(turns), mode)

    assert "loss_scale" not in json.dumps(row)
    assert [message.get("loss") for message in row["messages"]] == [None, False, None, True]


def test_rows_with_and_without_tools_have_the_same_columns() -> None:
    turns = [turn("user"), turn("assistant")]

    assert SWIFT.row(example(turns), "native")["tools"] == "[]"


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ([turn("user"), turn("system"), turn("assistant")], "system"),
        ([turn("tool"), turn("assistant")], "tool result"),
    ],
)
def test_rows_that_ms_swift_would_drop_say_so(turns: list[Message], word: str) -> None:
    with pytest.raises(UnusableError, match=word):
        SWIFT.row(example(turns), "native")


def test_the_native_config_says_that_weights_are_no_flags_and_loads_the_plugin() -> None:
    config = yaml.safe_load(SWIFT.files(plan("native", "data/train.jsonl"))["train.yaml"])

    assert config["dataset"] == ["data/train.jsonl"]
    assert config["is_binary_loss_scale"] is False
    assert config["external_plugins"] == list(SWIFT.adapters["native"])
    folder = Path(str(trajweight.adapters.__file__)).parent
    assert all((folder / name).is_file() for name in config["external_plugins"])


def test_resampled_epochs_are_read_in_their_order() -> None:
    config = yaml.safe_load(
        SWIFT.files(plan("resample", "data/a.jsonl", "data/b.jsonl"))["train.yaml"]
    )

    assert config["dataset"] == ["data/a.jsonl", "data/b.jsonl"]
    assert config["num_train_epochs"] == 1
    assert config["dataset_shuffle"] is config["train_dataloader_shuffle"] is False
    assert "is_binary_loss_scale" not in config


def test_bucket_rates_add_up_to_one_however_they_are_rounded() -> None:
    planned = plan("buckets", "a", "b", "c", rates=(0.333333, 0.333333, 0.333333))

    config = yaml.safe_load(SWIFT.files(planned)["train.yaml"])

    assert math.fsum(config["interleave_prob"]) == pytest.approx(1.0, abs=1e-12)
    assert config["dataset"] == ["a", "b", "c"]


def test_a_model_with_odd_signs_in_its_name_stays_one_value() -> None:
    planned = plan("native", "data/train.jsonl", model='a: "b" # c')

    assert yaml.safe_load(SWIFT.files(planned)["train.yaml"])["model"] == 'a: "b" # c'

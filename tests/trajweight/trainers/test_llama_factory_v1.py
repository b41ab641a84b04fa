from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given

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

FACTORY = target_named("llama-factory-v1")
KEYS = {"reasoning": "reasoning", "text": "content"}


def read(row: dict[str, Any]) -> list[Message]:
    """Messages of a row, their parts back in keys."""
    turns: list[Message] = []
    for message in row["messages"]:
        made: Message = {"role": message["role"], "content": ""}
        for part in message["content"]:
            if part["type"] == "tool_call":
                made.setdefault("calls", []).append(json.loads(part["value"]))
            else:
                made[KEYS[part["type"]]] = part["value"]
        turns.append(made)
    return turns


def told(turns: list[Message]) -> list[Message]:
    """The same of canonical messages."""
    made: list[Message] = []
    for message in turns:
        one: Message = {"role": message["role"], "content": message["content"]}
        one |= {key: message[key] for key in ("reasoning",) if key in message}
        if message.get("tool_calls"):
            one["calls"] = [
                {"name": call["name"], "arguments": call["arguments"]}
                for call in message["tool_calls"]
            ]
        made.append(one)
    return made


@given(dialogues())
def test_a_row_reads_back_as_the_conversation(turns: list[Message]) -> None:
    row = written(FACTORY.row(example(turns, TOOLS), "resample"))

    assert read(row) == told(turns)
    assert json.loads(row["tools"]) == TOOLS


@pytest.mark.parametrize(("mode", "weight"), [("resample", 1.0), ("native", 3.0)])
@given(turns=dialogues())
def test_only_replies_that_may_be_trained_on_weigh_anything(
    mode: Any, weight: float, turns: list[Message]
) -> None:
    row = FACTORY.row(example(turns), mode)

    assert [message["loss_weight"] for message in row["messages"]] == [
        weight if turn["role"] == "assistant" and not turn.get("untrained") else 0.0
        for turn in turns
    ]


def test_native_is_refused_for_its_divisor_and_can_be_forced() -> None:
    refusal = FACTORY.refused["native"]

    assert refusal.can_be_forced
    assert "micro_batch_size is 1" in refusal.reason
    assert refusal.nearest == FACTORY.modes[0] == "resample"
    assert not FACTORY.told(plan("native", "data/train.jsonl")).is_exact


def test_forced_weights_stand_in_one_micro_batch_a_step() -> None:
    config = yaml.safe_load(FACTORY.files(plan("native", "data/train.jsonl"))["train.yaml"])

    assert config["micro_batch_size"] == config["global_batch_size"] > 1


def test_the_list_of_data_names_every_file() -> None:
    files = FACTORY.files(plan("resample", "data/epoch-000.jsonl", "data/epoch-001.jsonl"))

    config, data = (yaml.safe_load(files[name]) for name in ("train.yaml", "datasets.yaml"))
    assert config["train_dataset"] in files
    assert [entry["path"] for entry in data.values()] == [
        "data/epoch-000.jsonl",
        "data/epoch-001.jsonl",
    ]
    assert not any("weight" in entry for entry in data.values())


def test_buckets_are_drawn_from_at_their_rates_and_an_epoch_keeps_its_size() -> None:
    planned = plan("buckets", "data/bucket-0.jsonl", "data/bucket-1.jsonl", rates=(0.2, 0.8))

    data = yaml.safe_load(FACTORY.files(planned)["datasets.yaml"])

    draws = [entry["weight"] * 100 for entry in data.values()]
    assert draws == pytest.approx([40.0, 160.0])


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_nothink"),
        ("a/b", "qwen3_nothink"),
    ],
)
def test_the_template_is_one_that_shows_tools(model: str, template: str) -> None:
    files = FACTORY.files(plan("filter", "data/train.jsonl", model=model))

    assert yaml.safe_load(files["train.yaml"])["template"] == template


def test_a_tool_name_that_breaks_the_json_around_it_stays_out() -> None:
    call = {"id": "c", "name": 'f", "arguments": {}}', "arguments": {}}

    with pytest.raises(UnusableError, match="writes into JSON"):
        FACTORY.row(example([turn("user"), turn("assistant", "", tool_calls=[call])]), "filter")

from __future__ import annotations

import json
import math
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

FACTORY = target_named("llama-factory")
SAID = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


def read(row: dict[str, Any]) -> list[Message]:
    """Turns as LLaMA-Factory's own formatter takes them apart: thought, tags, then JSON."""
    turns: list[Message] = []
    for each in row["conversations"]:
        made = {"role": SAID[each["from"]], "content": each["value"]}
        if each["from"] == "function_call":
            said, tag, rest = each["value"].partition("<tool_call>")
            calls = rest.removesuffix("</tool_call>") if tag else said
            made |= {"content": said if tag else "", "calls": json.loads(calls)}
        if made["role"] == "assistant":
            thought, closing, rest = made["content"].partition("\n</think>\n\n")
            if closing:
                made |= {"content": rest, "reasoning": thought.removeprefix("<think>\n")}
        turns.append(made)
    return turns


def told(turns: list[Message]) -> list[Message]:
    """The same of canonical messages, the results of a reply in one."""
    made: list[Message] = []
    for message in turns:
        one = {"role": message["role"], "content": message["content"]}
        if one["role"] == "tool" and made[-1]["role"] == "tool":
            made[-1]["content"] += "\n</tool_response>\n<tool_response>\n" + one["content"]
            continue
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

    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    assert row["system"] == system
    assert read(row) == told(turns[1:] if system else turns)
    assert json.loads(row["tools"]) == TOOLS


@given(dialogues())
def test_speakers_alternate_and_a_reply_ends_the_row(turns: list[Message]) -> None:
    speakers = [each["from"] for each in FACTORY.row(example(turns), "filter")["conversations"]]

    assert all(who in ("human", "observation") for who in speakers[::2])
    assert all(who in ("gpt", "function_call") for who in speakers[1::2])
    assert len(speakers) % 2 == 0


def test_what_follows_the_last_reply_is_left_out() -> None:
    turns = [turn("user"), turn("assistant"), turn("user", "thanks")]

    assert len(FACTORY.row(example(turns), "filter")["conversations"]) == 2


CALL = {"id": "c", "name": "f", "arguments": {"text": "</tool_call>"}}


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ([turn("user"), turn("user"), turn("assistant")], "turn 2 is from human"),
        ([turn("assistant"), turn("user"), turn("assistant")], "turn 1 is from gpt"),
        ([turn("user"), turn("assistant"), turn("assistant")], "turn 3 is from gpt"),
        ([turn("user"), turn("system"), turn("assistant")], "takes it first only"),
        ([turn("user")], "no reply"),
        ([turn("user"), turn("assistant", "hm", tool_calls=[CALL])], "<tool_call> in its text"),
    ],
)
def test_rows_that_llama_factory_would_skip_or_misread_say_so(
    turns: list[Message], word: str
) -> None:
    with pytest.raises(UnusableError, match=word):
        FACTORY.row(example(turns), "resample")


def test_the_index_describes_every_file_that_the_config_names() -> None:
    files = FACTORY.files(plan("resample", "data/epoch-000.jsonl", "data/epoch-001.jsonl"))

    config, index = yaml.safe_load(files["train.yaml"]), json.loads(files["dataset_info.json"])
    named = [index[name] for name in config["dataset"].split(",")]
    assert [entry["file_name"] for entry in named] == [
        "data/epoch-000.jsonl",
        "data/epoch-001.jsonl",
    ]
    assert all(entry["columns"]["messages"] == "conversations" for entry in named)
    assert config["disable_shuffling"] is True
    assert config["num_train_epochs"] == 1


def test_bucket_rates_add_up_to_one_and_go_with_interleaving() -> None:
    planned = plan("buckets", "data/bucket-0.jsonl", "data/bucket-1.jsonl", rates=(0.2, 0.7))

    config = yaml.safe_load(FACTORY.files(planned)["train.yaml"])

    rates = [float(rate) for rate in config["interleave_probs"].split(",")]
    assert math.fsum(rates) == pytest.approx(1.0, abs=1e-12)
    assert rates[1] / rates[0] == pytest.approx(3.5)
    assert config["mix_strategy"].startswith("interleave")


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_nothink"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "smollm2"),
        ("org/unheard-of", None),
    ],
)
def test_a_template_is_named_where_the_model_has_one(model: str, template: str | None) -> None:
    files = FACTORY.files(plan("filter", "data/train.jsonl", model=model))

    assert yaml.safe_load(files["train.yaml"]).get("template") == template


def test_weights_that_cannot_act_are_refused_and_never_forced() -> None:
    assert {"native", "adapter"} <= FACTORY.refused.keys()
    assert not any(refusal.can_be_forced for refusal in FACTORY.refused.values())
    assert all(refusal.nearest in FACTORY.modes for refusal in FACTORY.refused.values())

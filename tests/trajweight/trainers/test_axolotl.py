from __future__ import annotations

import ast
import json
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
from trajweight.formats import Item, UnusableError, format_named
from trajweight.records import Record
from trajweight.trainers import target_named

AXOLOTL = target_named("axolotl")


@given(dialogues(shuffles_results=True))
def test_a_row_reads_back_as_the_conversation(turns: list[Message]) -> None:
    row = written(AXOLOTL.row(example(turns, TOOLS), "adapter"))

    texts = {name: json.loads(row[name]) for name in ("messages", "tools")}
    found = format_named("messages").canonical(Item(texts, 1, Record(1, texts)))
    assert found.messages == turns
    assert found.tools == TOOLS


@pytest.mark.parametrize(
    ("mode", "weight"), [("adapter", 2.0), ("resample", None), ("filter", None)]
)
def test_the_weight_is_that_of_the_trajectory_and_only_for_the_plugin(
    mode: Any, weight: float | None
) -> None:
    row = AXOLOTL.row(example([turn("user"), turn("assistant")]), mode)

    assert row.get("weight") == weight


def test_arguments_that_axolotl_could_not_decode_stay_out() -> None:
    call = {"id": "c", "name": "f", "arguments": "not { json"}

    with pytest.raises(UnusableError, match="arguments that are no JSON"):
        AXOLOTL.row(example([turn("user"), turn("assistant", "", tool_calls=[call])]), "adapter")


def test_plugin_and_loader_are_named_as_the_file_beside_the_config_has_them() -> None:
    config = yaml.safe_load(AXOLOTL.files(plan("adapter", "data/train.jsonl"))["train.yaml"])

    (name,) = AXOLOTL.adapters["adapter"]
    source = (Path(str(trajweight.adapters.__file__)).parent / name).read_text("utf-8")
    defined = {getattr(node, "name", None) for node in ast.parse(source).body}
    for path in [*config["plugins"], *(entry["type"] for entry in config["datasets"])]:
        module, _, member = path.partition(".")
        assert f"{module}.py" == name
        assert member in defined
    assert config["datasets"][0]["path"] == "data/train.jsonl"


def test_copies_are_neither_merged_nor_shuffled_together() -> None:
    planned = plan("resample", "data/epoch-000.jsonl", "data/epoch-001.jsonl")

    config = yaml.safe_load(AXOLOTL.files(planned)["train.yaml"])

    assert [entry["path"] for entry in config["datasets"]] == [file.name for file in planned.data]
    assert {entry["type"] for entry in config["datasets"]} == {"chat_template"}
    assert "plugins" not in config
    assert config["dataset_exact_deduplication"] is False
    assert config["shuffle_merged_datasets"] is False
    assert config["curriculum_sampling"] is True
    assert config["num_epochs"] == 1
    assert config["val_set_size"] == 0


def test_the_command_lets_axolotl_find_the_plugin() -> None:
    assert AXOLOTL.told(plan("adapter", "data/train.jsonl")).command.startswith("PYTHONPATH=. ")

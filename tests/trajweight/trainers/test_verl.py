from __future__ import annotations

import ast
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given

import trajweight.adapters
from tests.trajweight.trainers.chat import canonical, through_parquet
from tests.trajweight.trainers.dialogues import (
    TOOLS,
    Message,
    dialogues,
    example,
    plan,
    turn,
)
from trajweight.trainers import target_named

if TYPE_CHECKING:
    from trajweight.trainers import Mode

VERL = target_named("verl")
ADAPTER = Path(trajweight.adapters.__path__[0], "verl_dataset.py")


@given(dialogues())
def test_a_row_comes_back_from_its_parquet_file_as_the_conversation(turns: list[Message]) -> None:
    row = VERL.row(example(turns, TOOLS, weight=0.37), "adapter")

    with TemporaryDirectory() as folder:
        read = through_parquet(row, VERL.schema, Path(folder))

    assert canonical(read["messages"]) == turns
    assert json.loads(read["tools"]) == TOOLS
    assert read["weight"] == 0.37


@pytest.mark.parametrize("mode", ["resample", "filter"])
def test_rows_of_other_modes_carry_no_weight_and_a_row_may_have_no_tools(
    mode: Mode, tmp_path: Path
) -> None:
    row = VERL.row(example([turn("user"), turn("assistant")]), mode)

    assert through_parquet(row, VERL.schema, tmp_path).keys() == {"messages"}


def test_tool_calls_of_different_shapes_stand_in_one_file_without_filling_each_other_up() -> None:
    def calling(arguments: dict[str, object]) -> list[Message]:
        call = {"id": "c", "name": "f", "arguments": arguments}
        return [turn("user"), turn("assistant", "", tool_calls=[call])]

    shapes: list[dict[str, object]] = [{"key": 1}, {"key": {"deep": None}}]
    rows = [VERL.row(example(calling(each)), "adapter") for each in shapes]
    texts = [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in rows]

    assert [json.loads(text) for text in texts] == shapes


@pytest.mark.parametrize("mode", VERL.modes)
def test_the_config_stands_over_the_one_of_verl_and_loads_our_dataset(mode: Mode) -> None:
    files = VERL.files(plan(mode, "data/a.parquet", "data/b.parquet", seed=7))
    config = yaml.safe_load(files["verl_sft.yaml"])

    assert config["defaults"] == ["sft_trainer_engine", "_self_"]
    assert config["data"]["train_files"] == ["data/a.parquet", "data/b.parquet"]
    assert config["data"]["custom_cls"]["path"] == ADAPTER.name
    assert VERL.adapters[mode] == (ADAPTER.name,)
    assert config["data"]["custom_cls"]["name"] in classes_in(ADAPTER)
    assert config["data"]["pad_mode"] == "no_padding"
    assert config["model"]["path"] == "org/Model-1B"
    assert config["trainer"]["seed"] == 7


def test_a_batch_is_never_larger_than_the_data_since_verl_would_take_no_step() -> None:
    files = VERL.files(plan("adapter", "data/train.parquet"))
    config = yaml.safe_load(files["verl_sft.yaml"])

    assert config["data"]["train_batch_size"] == 64
    assert VERL.told(plan("adapter")).is_exact
    assert not VERL.told(plan("resample")).is_exact


def classes_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given

from tests.trajweight.trainers.chat import canonical
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

if TYPE_CHECKING:
    from trajweight.trainers import Mode

NEMO_RL = target_named("nemo-rl")


@given(dialogues())
def test_a_row_reads_back_as_the_conversation_with_arguments_as_objects(
    turns: list[Message],
) -> None:
    row = written(NEMO_RL.row(example(turns, TOOLS, weight=0.37), "adapter"))

    assert canonical(row["messages"]) == turns
    assert row["tools"] == TOOLS
    assert row["weight"] == 0.37
    calls = [call for message in row["messages"] for call in message.get("tool_calls", ())]
    assert all(isinstance(call["function"]["arguments"], dict) for call in calls)


def test_arguments_that_are_no_json_stay_the_text_they_are() -> None:
    call = {"id": "c", "name": "f", "arguments": "{not json"}
    turns = [turn("user"), turn("assistant", "", tool_calls=[call])]

    row = NEMO_RL.row(example(turns), "filter")

    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{not json"
    assert row.keys() == {"messages"}


def test_the_last_message_is_a_reply_as_nemo_rl_demands() -> None:
    turns = [turn("user"), turn("assistant"), turn("user")]

    assert canonical(NEMO_RL.row(example(turns), "adapter")["messages"]) == turns[:2]
    assert "after the last reply" in NEMO_RL.remark(example(turns), "adapter")
    with pytest.raises(UnusableError, match="no reply"):
        NEMO_RL.row(example(turns[:1]), "adapter")


@pytest.mark.parametrize("mode", NEMO_RL.modes)
def test_the_config_names_our_dataset_for_every_file(mode: Mode) -> None:
    files = NEMO_RL.files(plan(mode, "data/a.jsonl", "data/b.jsonl"))
    config = yaml.safe_load(files["nemo_rl_sft.yaml"])

    assert [each["data_path"] for each in config["data"]["train"]] == [
        "data/a.jsonl",
        "data/b.jsonl",
    ]
    names = {each["dataset_name"] for each in config["data"]["train"]}
    (adapter,) = NEMO_RL.adapters[mode]
    assert names == {f"{adapter.removesuffix('.py')}.WeightedDataset"}
    assert config["defaults"] == "${oc.env:NEMO_RL}/examples/configs/sft.yaml"
    assert config["data"]["validation"] is None
    assert config["sft"]["val_period"] == 0
    assert config["policy"]["model_name"] == "org/Model-1B"
    assert "--config nemo_rl_sft.yaml" in files["train.sh"]


def test_the_steps_are_those_of_the_epochs_since_nemo_rl_stops_at_the_fewer() -> None:
    config = yaml.safe_load(NEMO_RL.files(plan("adapter", "data/a.jsonl"))["nemo_rl_sft.yaml"])

    batch, epochs = config["policy"]["train_global_batch_size"], config["sft"]["max_num_epochs"]
    assert config["sft"]["max_num_steps"] == epochs * (100 // batch)


def test_it_is_told_that_nothing_can_be_asked() -> None:
    assert NEMO_RL.probe == ""
    assert any("cannot ask it" in trap for trap in NEMO_RL.told(plan("adapter")).traps)

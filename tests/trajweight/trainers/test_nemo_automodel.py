from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given

import trajweight.adapters
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
from trajweight.jsontext import encode
from trajweight.trainers import target_named

AUTOMODEL = target_named("nemo-automodel")


@given(dialogues())
def test_a_row_reads_back_as_the_conversation_or_is_said_to_be_unusable(
    turns: list[Message],
) -> None:
    try:
        row = AUTOMODEL.row(example(turns, TOOLS, weight=0.37), "adapter")
    except UnusableError:
        assert len(encode(turns).splitlines()) > 1
        assume(False)

    plain = [{key: value for key, value in each.items() if key != "untrained"} for each in turns]
    assert canonical(written(row)["messages"]) == plain
    assert (row["tools"], row["weight"]) == (TOOLS, 0.37)
    assert len(encode(row).splitlines()) == 1


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
def test_text_that_automodel_would_break_into_two_lines_is_unusable(end: str) -> None:
    with pytest.raises(UnusableError, match=f"U\\+{ord(end):04X}"):
        AUTOMODEL.row(example([turn("user", f"a{end}b"), turn("assistant")]), "adapter")


def test_a_result_that_answers_no_call_is_unusable() -> None:
    with pytest.raises(UnusableError, match="which call"):
        AUTOMODEL.row(example([turn("user"), turn("tool"), turn("assistant")]), "filter")


def test_only_mode_adapter_loads_our_dataset_and_writes_weights() -> None:
    turns = [turn("user"), turn("assistant")]
    weighted, resampled = (
        yaml.safe_load(AUTOMODEL.files(plan(mode, "data/a.jsonl"))["automodel_sft.yaml"])
        for mode in ("adapter", "resample")
    )
    (adapter,) = AUTOMODEL.adapters["adapter"]

    assert Path(trajweight.adapters.__path__[0], adapter).exists()
    assert weighted["dataset"]["_target_"] == f"{adapter}:WeightedChatDataset"
    assert weighted["recipe"] == f"{adapter.removesuffix('.py')}.WeightedRecipe"
    assert weighted["weight_objective"] == "sequence-mean"
    assert weighted["dataset"]["path_or_dataset_id"] == ["data/a.jsonl"]
    assert weighted["model"]["pretrained_model_name_or_path"] == "org/Model-1B"
    assert weighted["packed_sequence"]["packed_sequence_size"] == 0
    assert adapter in AUTOMODEL.told(plan("adapter")).command
    assert resampled["dataset"]["_target_"].startswith("nemo_automodel.")
    assert resampled["recipe"] == "TrainFinetuneRecipeForNextTokenPrediction"
    assert "weight_objective" not in resampled
    assert AUTOMODEL.adapters.get("resample", ()) == ()
    assert "weight" not in AUTOMODEL.row(example(turns), "resample")

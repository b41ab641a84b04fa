from __future__ import annotations

import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
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
from trajweight.formats import UnusableError
from trajweight.trainers import target_named

if TYPE_CHECKING:
    from trajweight.trainers import Mode

OPENRLHF = target_named("openrlhf")


@given(dialogues())
def test_a_row_comes_back_from_its_parquet_file_as_the_conversation(turns: list[Message]) -> None:
    row = OPENRLHF.row(example(turns, TOOLS, weight=0.37), "adapter")

    with TemporaryDirectory() as folder:
        read = through_parquet(row, OPENRLHF.schema, Path(folder))

    assert canonical(read["messages"]) == turns
    assert json.loads(read["tools"]) == TOOLS
    assert read["weight"] == 0.37


def test_what_follows_the_last_reply_is_left_out_and_told() -> None:
    turns = [turn("user"), turn("assistant"), turn("user", "thanks")]

    assert canonical(OPENRLHF.row(example(turns), "filter")["messages"]) == turns[:2]
    assert "after the last reply" in OPENRLHF.remark(example(turns), "filter")
    assert OPENRLHF.remark(example(turns[:2]), "filter") == ""


def test_a_row_without_a_reply_is_unusable() -> None:
    with pytest.raises(UnusableError, match="no reply"):
        OPENRLHF.row(example([turn("user")]), "adapter")


def flags_in(script: str) -> dict[str, str]:
    """Flags of the program in a script, those without a value with an empty one."""
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    words = words[words.index("deepspeed") + 2 :]
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {
        flag: "" if value.startswith("--") else value
        for flag, value in pairs
        if flag.startswith("--")
    }


@pytest.mark.parametrize("mode", OPENRLHF.modes)
def test_the_script_runs_our_program_on_all_files(mode: Mode) -> None:
    script = OPENRLHF.files(plan(mode, "data/a.parquet", "data/b.parquet"))["train.sh"]
    flags = flags_in(script)

    (adapter,) = OPENRLHF.adapters[mode]
    assert f"deepspeed {adapter} " in script
    assert Path(trajweight.adapters.__path__[0], adapter).exists()
    assert flags["--data.dataset"] == "data/a.parquet,data/b.parquet"
    assert flags["--data.input_key"] == "messages"
    assert flags["--model.model_name_or_path"] == "org/Model-1B"
    assert {"--data.multiturn", "--data.apply_chat_template"} <= flags.keys()


def test_buckets_are_drawn_from_at_their_rates_and_other_files_are_joined() -> None:
    names = ("data/bucket-0.parquet", "data/bucket-1.parquet")
    mixed = OPENRLHF.files(plan("buckets", *names, rates=(0.25, 0.75)))["train.sh"]

    assert flags_in(mixed)["--data.dataset_probs"] == "0.250000,0.750000"
    assert "--data.dataset_probs" not in OPENRLHF.files(plan("filter", names[0]))["train.sh"]


def test_a_name_of_a_model_is_one_word_of_the_shell_whatever_it_holds() -> None:
    script = OPENRLHF.files(plan("adapter", "data/train.parquet", model="a b; c"))["train.sh"]

    assert flags_in(script)["--model.model_name_or_path"] == "a b; c"

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.trainers.dialogues import TOOLS, Message, example, plan, turn
from trajweight.formats import UnusableError
from trajweight.trainers import target_named

if TYPE_CHECKING:
    from pathlib import Path

TORCHTUNE = target_named("torchtune")


def stops_torchtune(roles: list[str]) -> bool:
    """The rules of torchtune's own check of a conversation, one after the other."""
    if len(roles) < 2:
        return True
    before = ["assistant", *roles]
    return any(
        (role == "assistant" and last != "user")
        or (role == "user" and last == "user")
        or (role == "system" and place > 0)
        for place, (last, role) in enumerate(zip(before, roles, strict=False))
    )


@given(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), min_size=1, max_size=6))
def test_a_row_is_written_exactly_if_torchtune_would_take_its_turns(roles: list[str]) -> None:
    turns = [turn(role, f"{place}") for place, role in enumerate(roles)]

    try:
        row = TORCHTUNE.row(example(turns), "resample")
    except UnusableError:
        assert stops_torchtune(roles)
    else:
        assert not stops_torchtune(roles)
        assert [each["content"] for each in row["messages"]] == [each["content"] for each in turns]
        named = [each["role"].replace("ipython", "tool") for each in row["messages"]]
        assert named == roles


def test_thoughts_are_kept_in_the_text_as_models_write_them() -> None:
    turns = [turn("user"), turn("assistant", "yes", reasoning="hm")]

    row = TORCHTUNE.row(example(turns), "filter")

    assert row["messages"][1]["content"] == "<think>\nhm\n</think>\n\nyes"


@pytest.mark.parametrize(
    ("turns", "tools"),
    [
        ([turn("user"), turn("assistant")], TOOLS),
        (
            [
                turn("user"),
                turn("assistant", tool_calls=[{"id": "c", "name": "f", "arguments": {}}]),
            ],
            None,
        ),
    ],
)
def test_rows_with_tools_are_unusable(turns: list[Message], tools: object) -> None:
    with pytest.raises(UnusableError, match="tool"):
        TORCHTUNE.row(example(turns, tools), "resample")


def test_the_script_reads_the_files_of_all_epochs_in_their_order() -> None:
    script = TORCHTUNE.files(plan("resample", "data/epoch-000.jsonl", "data/epoch-001.jsonl"))
    words = shlex.split(script["train.sh"].replace("\\\n", " "), comments=True)

    assert "dataset.data_files=[data/epoch-000.jsonl,data/epoch-001.jsonl]" in words
    assert {"shuffle=False", "epochs=1", "dataset.conversation_style=openai"} <= set(words)


@pytest.mark.parametrize("config", [None, "llama3_2/1B_lora_single_device"])
def test_a_shell_gives_tune_the_config_that_was_chosen_and_each_file_unbroken(
    tmp_path: Path, config: str | None
) -> None:
    script = TORCHTUNE.files(plan("filter", "data/of two words.jsonl"))["train.sh"]
    (tmp_path / "train.sh").write_text(script)
    (tmp_path / "tune").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "tune").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"}
    if config is not None:
        environment["TUNE_CONFIG"] = config

    said = subprocess.run(
        ["/bin/sh", "train.sh"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    words = said.stdout.decode().splitlines()

    chosen = config or "qwen2_5/0.5B_lora_single_device"
    assert words[:4] == ["run", "lora_finetune_single_device", "--config", chosen]
    assert "dataset.data_files=[data/of two words.jsonl]" in words
    assert all("=" in word for word in words[4:])


def test_it_is_told_that_torchtune_is_no_longer_maintained() -> None:
    assert "no longer maintained" in TORCHTUNE.title
    assert any("no longer maintained" in trap for trap in TORCHTUNE.told(plan("filter")).traps)

"""TRL, plain transformers and unsloth: one script, filled in by each."""

from __future__ import annotations

import ast
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.trajweight.trainers.test_services import call, conversations, example, plan, turn
from trajweight.adapters.chat_rows import encoded
from trajweight.formats import Item, UnusableError, format_named
from trajweight.records import Record
from trajweight.tiny import build_tiny
from trajweight.trainers import MODES, target_named

if TYPE_CHECKING:
    from trajweight.trainers import Mode

FAMILY = ("trl", "hf", "unsloth")
OFFERED = [(name, mode) for name in FAMILY for mode in target_named(name).modes]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def script(name: str, mode: Mode, n_files: int = 1) -> str:
    files = target_named(name).files(plan(mode, n_files))
    assert list(files) == ["train.py"]
    return files["train.py"]


def constants(text: str) -> dict[str, Any]:
    """What the script sets at its top."""
    return {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant | ast.List)
    }


@given(conversations())
def test_a_row_read_back_is_the_same_conversation(messages) -> None:
    """But for what follows the last reply, which is never trained on."""
    last = max(place for place, each in enumerate(messages) if each["role"] == "assistant")

    row = target_named("trl").row(example(messages, TOOLS), "adapter")

    read = json.loads(json.dumps(row))
    found = format_named("messages").canonical(Item(read, 1, Record(1, read)))
    assert found.messages == messages[: last + 1]
    assert found.tools == TOOLS


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("mode", ["adapter", "resample", "filter"])
def test_only_rows_for_an_adapter_carry_the_weight(name, mode) -> None:
    row = target_named(name).row(example([turn("user"), turn("assistant")]), mode)

    assert row.get("weight") == (2.0 if mode == "adapter" else None)


def test_the_script_that_goes_along_reads_the_rows() -> None:
    talk = [turn("user"), turn("assistant", "", tool_calls=[call(at="box")]), turn("tool")]
    talk[2] |= {"tool_call_id": "c1"}
    talk += [turn("assistant", "copied", untrained=True), turn("user"), turn("assistant", "done")]
    tokenizer = build_tiny()[1]

    made = encoded(target_named("hf").row(example(talk, TOOLS), "adapter"), tokenizer)

    spoken = tokenizer.decode([label for label in made["labels"] if label != -100])
    assert spoken == (
        '\n<tool_call>\n{"name": "f", "arguments": {"at": "box"}}\n</tool_call><|im_end|>'
        "done<|im_end|>"
    )


def test_a_conversation_without_a_reply_cannot_be_trained_on() -> None:
    with pytest.raises(UnusableError, match="no reply to train on"):
        target_named("trl").row(example([turn("user")]), "adapter")


@pytest.mark.parametrize(("name", "mode"), OFFERED)
def test_a_script_names_its_data_and_brings_all_it_imports(name, mode) -> None:
    n_files = 3 if mode == "resample" else 1
    text = script(name, mode, n_files)

    told = constants(text)
    assert told["TRAIN"] == [file.name for file in plan(mode, n_files).data]
    assert (told["MODEL"], told["SEED"]) == ("org/model", 7)
    imported = {
        statement.module
        for statement in ast.walk(ast.parse(text))
        if isinstance(statement, ast.ImportFrom)
    }
    ours = {path.name for path in resources.files("trajweight.adapters").iterdir()}
    needed = {f"{module}.py" for module in imported} & ours
    brought = set(target_named(name).adapters[mode])
    assert needed <= brought
    for file in brought:  # and what these import of each other
        source = resources.files("trajweight.adapters").joinpath(file).read_text("utf-8")
        used = {f"{found}.py" for found in re.findall(r"^    from (\w+) import", source, re.M)}
        assert used & ours <= brought
    assert not re.search(r"@\w", text)


@pytest.mark.parametrize(("name", "mode"), OFFERED)
def test_only_scripts_for_weights_use_a_weighted_trainer(name, mode) -> None:
    text = script(name, mode)

    assert ("Weighted" in text) == (mode in ("adapter", "tokenized"))
    assert ("--unweighted" in text) == (mode in ("adapter", "tokenized"))


@pytest.mark.parametrize("name", FAMILY)
def test_resampled_epochs_are_read_in_order_each_once(name) -> None:
    text = script(name, "resample", 3)

    assert 'train_sampling_strategy="sequential"' in text
    assert "num_train_epochs=1" in text
    assert "default=3,\n        choices=range(1, 4)," in text
    assert "TRAIN[: settings.epochs]" in text


@pytest.mark.parametrize("name", FAMILY)
def test_every_mode_is_offered_or_refused_with_one_that_is_offered(name) -> None:
    target = target_named(name)

    assert {*target.modes, *target.refused} == set(MODES)
    assert not set(target.modes) & set(target.refused)
    for refusal in target.refused.values():
        assert refusal.nearest in target.modes
    for mode in target.modes:
        told = target.told(plan(mode))
        assert told.is_exact == (mode in ("adapter", "tokenized"))
        assert told.command == "python train.py"

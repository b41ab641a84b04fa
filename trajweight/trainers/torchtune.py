"""torchtune: no weights and no tool calls, and no longer maintained; rows are repeated."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

_NEAREST: Final = Refusal(
    "torchtune reads no weight, and is no longer maintained, so that no adapter is kept for it.",
    "resample",
)
_BUCKETS: Final = Refusal("torchtune joins its files and knows no rates for them.", "resample")

_SCRIPT: Final = """\
#!/bin/sh
# Fine-tunes with torchtune 0.6, {mode}; run it from inside this folder. torchtune has a config for
# each model, so that {model} must stand in the one named here: see `tune ls`, and
# `tune download` for the model itself.
set -e
: "${{TUNE_CONFIG:=qwen2_5/0.5B_lora_single_device}}"
tune run lora_finetune_single_device --config "$TUNE_CONFIG" \\
  dataset._component_=torchtune.datasets.chat_dataset \\
  dataset.source=json \\
  dataset.data_files={files} \\
  dataset.split=train \\
  dataset.conversation_column=messages \\
  dataset.conversation_style=openai \\
  dataset.packed=False \\
  batch_size=2 \\
  gradient_accumulation_steps=16 \\
  epochs={epochs} \\
  seed={seed} \\
  shuffle={shuffle} \\
  output_dir=output
"""


class Torchtune(Target):
    """torchtune 0.6 reads plain conversations."""

    name = "torchtune"
    title = "torchtune (no longer maintained)"
    checked = ("torchtune 0.6.1",)
    modes: ClassVar[tuple[Mode, ...]] = ("resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        **dict.fromkeys(("native", "adapter", "tokenized"), _NEAREST),
        "buckets": _BUCKETS,
    }
    probe = "torchtune"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages of a role and a text.

        Raises:
            UnusableError: If the row has tools, or torchtune would stop at its order of turns.
        """
        del mode
        if example.tools is not None:
            reason = "it has tools, and torchtune's conversations cannot show them"
            raise UnusableError(reason)
        messages = [_written(message) for message in example.messages]
        _refuse_order([message["role"] for message in messages])
        return {"messages": messages}

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The call of torchtune's recipe, which its own config of the model completes."""
        names = ",".join(file.name for file in plan.data)
        is_resampled = plan.mode == "resample"
        script = _SCRIPT.format(
            mode=plan.mode,
            model=plan.model.replace("\n", " "),
            files=shlex.quote(f"[{names}]"),
            epochs=1 if is_resampled else 3,
            seed=plan.seed,
            shuffle="False" if is_resampled else "True",
        )
        return {"train.sh": script}

    def told(self, plan: Plan) -> Told:
        """That copies are all it can do."""
        acts = "A trajectory stands in the file of an epoch as often as was drawn for it."
        if plan.mode == "filter":
            acts = "Kept trajectories count alike."
        return Told(
            acts=f"{acts} Rows carry no weight. The loss is a mean over the tokens of a step, so "
            "that each counts by its tokens.",
            command="TUNE_CONFIG=qwen2_5/0.5B_lora_single_device sh train.sh",
            install="pip install torchtune==0.6.1 torchao==0.9.0",
            traps=(
                "torchtune is no longer maintained. Take trl, verl or axolotl where you can.",
                "Chat templates are torchtune's own, and not those of the model.",
                "Rows are not cut. With `tokenizer.max_seq_len` torchtune teaches the end of no "
                "row's last reply, even where nothing is cut (its issue 2792).",
                "Packed rows (`dataset.packed=True`) may join copies of one trajectory.",
            ),
            is_exact=False,
        )


def _written(message: Row) -> Row:
    role, content = message["role"], message["content"] or ""
    if message.get("tool_calls"):
        reason = "it has tool calls, which torchtune's conversations drop"
        raise UnusableError(reason)
    if message.get("reasoning_content"):
        content = f"<think>\n{message['reasoning_content']}\n</think>\n\n{content}"
    return {"role": "ipython" if role == "tool" else role, "content": content}


def _refuse_order(roles: list[str]) -> None:
    """Raise where torchtune would stop the training.

    Raises:
        UnusableError: If it would.
    """
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    last = "assistant"
    for role in spoken:
        if role == "system":
            reason = "a system message stands after another message, at which torchtune stops"
            raise UnusableError(reason)
        if role == last == "user":
            reason = "two user messages follow each other, at which torchtune stops"
            raise UnusableError(reason)
        if role == "assistant" and last != "user":
            reason = "a reply follows no user message, at which torchtune stops"
            raise UnusableError(reason)
        last = role
    if len(roles) < 2:
        reason = "it has one message, and torchtune wants two"
        raise UnusableError(reason)

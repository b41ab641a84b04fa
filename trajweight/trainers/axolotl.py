"""axolotl: no weight of its own, but plugins, so that ours weighs the loss by a column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, decode
from trajweight.trainers.conversations import messages_of
from trajweight.trainers.protocol import Mode, Plan, Refusal, Row, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example

_PLUGIN: Final = "axolotl_weights.py"

_CONFIG = """\
# Fine-tunes with axolotl 0.19: {command}, from inside this folder.
base_model: {model}
{plugin}
datasets:
{datasets}
dataset_prepared_path: prepared  # delete it when the data change: axolotl does not look
dataset_exact_deduplication: false  # copies of a row are meant
{order}
sequence_len: 8192
excess_length_strategy: drop  # a longer trajectory is left out, its weight too
sample_packing: false
pad_to_sequence_len: false

adapter: lora  # leave it out to train every parameter
lora_r: 16
lora_alpha: 32
lora_dropout: 0.0
lora_target_linear: true

num_epochs: {epochs}
micro_batch_size: 1
gradient_accumulation_steps: 16
learning_rate: 1.0e-4
lr_scheduler: cosine
warmup_ratio: 0.05
optimizer: adamw_torch
bf16: auto
gradient_checkpointing: true
val_set_size: 0.0  # a part of the same rows would hold copies
logging_steps: 5
saves_per_epoch: 1
output_dir: output
seed: {seed}
"""

_DATASET = """\
  - path: {path}
    ds_type: json
    type: {kind}
    roles_to_train: [assistant]
    train_on_eos: turn
    message_field_training: training
"""


class Axolotl(Target):
    """Rows of ``chat_template``, messages and tools as JSON text, a root float ``weight``."""

    name = "axolotl"
    title = "axolotl"
    checked = ("axolotl 0.19.0",)
    modes = ("adapter", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "axolotl trains on a turn or does not; a weight in its rows is compared with zero, or "
            "dropped.",
            "adapter",
        ),
        "buckets": Refusal(
            "axolotl joins its datasets and draws from none more often than from another.",
            "resample",
        ),
        "tokenized": Refusal("axolotl reads tokenised rows, but no weights in them.", "adapter"),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {"adapter": (_PLUGIN,)}
    probe = "axolotl"
    averages_rows = True  # it averages micro-batches, and one holds a single row

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages and tools as JSON text, which axolotl decodes.

        As columns they would share types over rows, and what one row lacks would become null.

        Raises:
            UnusableError: If arguments of a call are no JSON: axolotl would stop at them.
        """
        messages = messages_of(example, flags=True)
        for message in messages:
            if message.pop("train", None) is False:
                message["training"] = False
            for call in message.get("tool_calls", ()):
                _check(call["function"])
        row: Row = {
            "messages": json.dumps(messages, ensure_ascii=False),
            "tools": json.dumps(example.tools or [], ensure_ascii=False),
        }
        return {**row, "weight": example.weight} if mode == "adapter" else row

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The config that ``axolotl train`` reads."""
        is_weighted = plan.mode == "adapter"
        kind = "axolotl_weights.load" if is_weighted else "chat_template"
        text = _CONFIG.format(
            command=_COMMAND,
            model=json.dumps(plan.model),
            plugin=_PLUGIN_LINES if is_weighted else "",
            datasets="".join(
                _DATASET.format(path=json.dumps(file.name), kind=kind) for file in plan.data
            ),
            order=_IN_ORDER if plan.mode == "resample" else "shuffle_merged_datasets: true",
            epochs=1 if plan.mode == "resample" else 2,
            seed=plan.seed,
        )
        return {"train.yaml": text}

    def told(self, plan: Plan) -> Told:
        """How weights act, by mode."""
        traps = [
            "axolotl keeps prepared data by path and settings, not by content: after a change of "
            "the data delete `prepared`.",
        ]
        if plan.mode == "adapter":
            acts = (
                "Our plugin multiplies the loss of each token by the trajectory's weight over its "
                "number of trained tokens, sums over the optimiser step, micro-batches and "
                "processes included, and divides by the number of rows. "
                "`trajectory_objective: token-weighted` leaves the number of tokens out."
            )
            traps += [
                "`weight` acts through `plugins` and `type` together: with `type: chat_template` "
                "the column is dropped without a word where the plugin is not loaded.",
                "axolotl must find the plugin: keep `PYTHONPATH=.` in the command.",
            ]
            return Told(acts, _COMMAND, _INSTALL, tuple(traps))
        acts = (
            "A trajectory stands in the file of an epoch as often as was drawn for it; rows have "
            "no weight."
            if plan.mode == "resample"
            else "Kept trajectories count alike; rows have no weight."
        )
        acts += (
            " axolotl averages each micro-batch over its tokens, and then the micro-batches: with "
            "`micro_batch_size: 1` every row of a step counts alike, whatever its length."
        )
        traps += [
            "`dataset_exact_deduplication: true` would undo the copies.",
            "With a larger `micro_batch_size`, or `sample_packing`, long rows count more than "
            "short ones beside them.",
        ]
        return Told(acts, _COMMAND, _INSTALL, tuple(traps), is_exact=False)


_COMMAND: Final = "PYTHONPATH=. axolotl train train.yaml"
_INSTALL: Final = "pip install axolotl==0.19.0"
_PLUGIN_LINES: Final = """\
plugins:
  - axolotl_weights.TrajectoryWeights  # axolotl_weights.py beside this file
trajectory_objective: sequence-mean  # token-weighted: long trajectories count more
"""
_IN_ORDER: Final = """\
shuffle_merged_datasets: false  # a file an epoch, in the order they were drawn, copies apart
curriculum_sampling: true"""


def _check(function: Mapping[str, Any]) -> None:
    """Raise for arguments that axolotl could not decode.

    Raises:
        UnusableError: If they are no JSON.
    """
    try:
        decode(function["arguments"])
    except NotJsonError as error:
        reason = (
            f"a call of {function['name']} has arguments that are no JSON; axolotl stops at them"
        )
        raise UnusableError(reason) from error

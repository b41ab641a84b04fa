"""NeMo Automodel: its losses take a weight a token, which its config does not reach but we do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import encode
from trajweight.trainers.conversations import messages_of
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

#: Characters that JSON lets stand in a text and at which Automodel ends a line all the same.
_LINE_ENDS: Final = re.compile("[\x85\u2028\u2029]")
#: Rows of an optimiser step.
_BATCH: Final = 64

_CONFIG: Final = """\
# Fine-tunes with NeMo Automodel, {mode}; run it from inside this folder.
recipe: {recipe}
{objective}
step_scheduler:
  global_batch_size: {batch} # weights act between the rows of one step
  local_batch_size: 1
  num_epochs: {epochs}

dist_env:
  backend: nccl
  timeout_minutes: 10

seed: {seed}

model:
  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained
  pretrained_model_name_or_path: {model}

# LoRA; without this block every parameter is trained, with a learning rate of about 1.0e-5.
peft:
  _target_: nemo_automodel.components._peft.lora.PeftConfig
  match_all_linear: true
  dim: 32
  alpha: 64

distributed:
  strategy: fsdp2

loss_fn:
  _target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy

dataset:
  _target_: {dataset}
  path_or_dataset_id: {files}
  seq_length: 8192
  truncation: true

packed_sequence:
  packed_sequence_size: 0 # packed rows lose their weights

dataloader:
  _target_: torchdata.stateful_dataloader.StatefulDataLoader
  collate_fn: nemo_automodel.components.datasets.utils.default_collater
  shuffle: {shuffle}
  num_workers: 0

optimizer:
  _target_: torch.optim.AdamW
  lr: 1.0e-4
  weight_decay: 0.0

lr_scheduler:
  lr_decay_style: cosine
  min_lr: 1.0e-5

checkpoint:
  enabled: true
  checkpoint_dir: checkpoints/
  model_save_format: safetensors
  save_consolidated: false
"""


class NemoAutomodel(Target):
    """NeMo Automodel; a subclass of its recipe gives its loss the weights."""

    name = "nemo-automodel"
    title = "NeMo Automodel"
    checked = ("nemo-automodel 0.7.0",)
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "Automodel weighs domains of pretraining data, and no rows of conversations.", "adapter"
        ),
        "buckets": Refusal("its dataset of conversations knows no rates of files.", "resample"),
        "tokenized": Refusal("its dataset of conversations reads messages.", "adapter"),
    }
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {"adapter": ("nemo_automodel_sft.py",)}
    probe = "automodel"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages and tools as they are, and in mode adapter the weight.

        Raises:
            UnusableError: If Automodel would not read the row.
        """
        messages = messages_of(example, flags=False)
        for message in messages:
            if message["role"] == "tool" and not message.get("tool_call_id"):
                reason = "a tool result does not say which call it answers; Automodel refuses it"
                raise UnusableError(reason)
        row: Row = {"messages": messages}
        if example.tools is not None:
            row["tools"] = example.tools
        if found := _LINE_ENDS.search(encode(row)):
            reason = (
                f"its text holds U+{ord(found[0]):04X}, at which Automodel would break the line of "
                "the row in two"
            )
            raise UnusableError(reason)
        return {**row, "weight": example.weight} if mode == "adapter" else row

    def files(self, plan: Plan) -> Mapping[str, str]:
        """A config of the recipe."""
        is_weighted, is_resampled = plan.mode == "adapter", plan.mode == "resample"
        rows = sum(file.n_rows for file in plan.data)
        recipe = "nemo_automodel_sft.WeightedRecipe # Automodel's own reads no weights"
        stock = "nemo_automodel.components.datasets.llm.chat_dataset.ChatDataset"
        objective = "# Or token-weighted: long trajectories count more.\n"
        objective += "weight_objective: sequence-mean\n"
        config = _CONFIG.format(
            mode=plan.mode,
            recipe=recipe if is_weighted else "TrainFinetuneRecipeForNextTokenPrediction",
            objective=objective if is_weighted else "",
            batch=max(1, min(_BATCH, rows)),
            epochs=1 if is_resampled else 3,
            seed=plan.seed,
            model=json.dumps(plan.model),
            dataset="nemo_automodel_sft.py:WeightedChatDataset" if is_weighted else stock,
            files=json.dumps([file.name for file in plan.data]),
            shuffle="false" if is_resampled else "true",
        )
        return {"automodel_sft.yaml": config}

    def told(self, plan: Plan) -> Told:
        """Where weights enter the loss."""
        if plan.mode == "adapter":
            acts = (
                "`nemo_automodel_sft.py` gives Automodel's loss a weight for every token, w_i N / "
                "(n T_i) with N trained tokens and n rows in the step. Automodel divides by N, so "
                "that the step is the mean over its rows of w_i times their mean token loss."
            )
            command = (
                "torchrun --standalone --nproc-per-node 1 nemo_automodel_sft.py "
                "--config automodel_sft.yaml"
            )
        else:
            acts = (
                "The rows carry no weight: how often they are read is what they count. Each counts "
                "by its tokens as in Automodel itself."
            )
            command = "automodel automodel_sft.yaml --nproc-per-node 1"
        traps = [
            "Automodel's own recipe takes no notice of weights, and says nothing; the config names "
            "the one of `nemo_automodel_sft.py`.",
            "An optimiser step over one trajectory blunts its weight: AdamW does not see the size "
            "of a gradient. Keep several trajectories a step.",
            "Packed sequences, pipeline and context parallelism drop weights; the adapter refuses "
            "them.",
            "Automodel turns arguments of tool calls into text; templates that print them with "
            "`tojson` quote them once more.",
        ]
        return Told(
            acts=acts,
            command=command,
            install="pip install nemo-automodel==0.7.0",
            traps=tuple(traps if plan.mode == "adapter" else traps[3:]),
            is_exact=plan.mode == "adapter",
        )

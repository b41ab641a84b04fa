"""verl: its SFT trainer sums a mask over the whole batch, so that the mask may hold weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.conversations import CHAT_SCHEMA, chat_row
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Container, Example, Mode, Plan, Row

_ADAPTER: Final = ("verl_dataset.py",)
#: Rows of an optimiser step; fewer where there are fewer, since verl drops what is no full batch.
_BATCH: Final = 64

_CONFIG: Final = """\
# verl {mode}: what stands here goes over verl's own sft_trainer_engine.yaml.
defaults:
  - sft_trainer_engine
  - _self_

data:
  train_files: {files}
  # Multiplies the loss mask of each row by its weight; without it weights do nothing.
  custom_cls:
    path: verl_dataset.py
    name: WeightedSFTDataset
  # sequence-mean: a trajectory counts by its weight. token-weighted: by weight times length.
  weight_objective: sequence-mean
  pad_mode: no_padding # the other one makes the mask true and false, and weights are lost
  max_length: 8192
  truncation: right
  train_batch_size: {batch} # of all GPUs; weights act between the rows of one batch
  micro_batch_size_per_gpu: 1
  use_dynamic_bsz: true
  max_token_len_per_gpu: 8192

model:
  path: {model}
  enable_gradient_checkpointing: true
  lora_rank: 32 # 0 for a full fine-tune; then take a learning rate of about 1.0e-5
  lora_alpha: 64

engine:
  strategy: fsdp2

optim:
  lr: 1.0e-4
  lr_warmup_steps_ratio: 0.03
  lr_scheduler_type: cosine
  clip_grad: 1.0

trainer:
  project_name: trajweight
  experiment_name: {mode}
  default_local_dir: checkpoints
  total_epochs: {epochs}
  logger: [console]
  seed: {seed}
  save_freq: after_each_epoch
  resume_mode: disable
"""


class Verl(Target):
    """verl 0.9 reads Parquet; a subclass of its dataset puts weights into the loss mask."""

    name = "verl"
    title = "verl SFT"
    checked = ("verl 0.9.1",)
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal("verl reads no weight from its data.", "adapter"),
        "buckets": Refusal("verl joins its files and knows no rates for them.", "resample"),
        "tokenized": Refusal("verl's SFT trainer reads messages, not tokens.", "adapter"),
    }
    container: ClassVar[Container] = "parquet"
    keeps_turn_flags = True
    schema = CHAT_SCHEMA
    #: In every mode: verl's own reader takes no tools as text, and fills keys in with null.
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = dict.fromkeys(modes, _ADAPTER)
    probe = "verl"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, tools as JSON text, and in mode adapter the weight."""
        return chat_row(example, weight=example.weight if mode == "adapter" else None)

    def files(self, plan: Plan) -> Mapping[str, str]:
        """A config that stands over verl's own."""
        is_resampled = plan.mode == "resample"
        rows = sum(file.n_rows for file in plan.data)
        config = _CONFIG.format(
            mode=plan.mode,
            files=json.dumps([file.name for file in plan.data]),
            batch=max(1, min(_BATCH, rows)),
            model=json.dumps(plan.model),
            epochs=1 if is_resampled else 3,
            seed=plan.seed,
        )
        return {"verl_sft.yaml": config}

    def told(self, plan: Plan) -> Told:
        """That the batch decides."""
        acts = (
            "`verl_dataset.py` sets the loss mask of row i to w_i / T_i on its T_i trained tokens. "
            "verl sums mask times loss over the whole batch, all ranks and micro-batches, and "
            "divides by the sum of the mask: the weighted mean over trajectories."
        )
        if plan.mode != "adapter":
            acts = (
                "The rows carry no weight: how often they are read is what they count. Each counts "
                "by its tokens as in verl itself; "
                "`verl_dataset.py` only decodes tools and arguments of tool calls."
            )
        traps: tuple[str, ...] = (
            "The divisor is the weight of the batch: a `train_batch_size` of 1 cancels every "
            "weight, and a small one blunts them. Micro-batches may be as small as you like.",
            "verl drops the last batch of an epoch where it is not full.",
            "verl renders each message alone, and stops where that differs from rendering them "
            "together, as with templates that drop earlier reasoning or join tool results. "
            "`data.ignore_input_ids_mismatch: true` trains on the separate rendering all the same.",
            "The Megatron engine casts the mask to true and false in one place; it is not checked. "
            "Use FSDP.",
        )
        if plan.mode == "resample":
            traps += (
                "verl shuffles the files of all epochs together: counts stay, but an epoch is no "
                "longer a file, and copies may come to stand side by side.",
            )
        return Told(
            acts=acts,
            command=(
                "torchrun --standalone --nproc-per-node 1 -m verl.trainer.sft_trainer "
                "--config-dir . --config-name verl_sft"
            ),
            install="pip install verl==0.9.1 uvicorn fastapi",
            traps=traps,
            is_exact=plan.mode == "adapter",
        )

"""NeMo-RL: every row has a float ``loss_multiplier``, which a dataset of ours fills in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.jsontext import NotJsonError, decode
from trajweight.trainers.conversations import ending_in_reply, messages_of
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

_ADAPTER: Final = ("nemo_rl_sft.py",)
#: Rows of an optimiser step; fewer where there are fewer.
_BATCH: Final = 64

_CONFIG: Final = """\
# NeMo-RL {mode}: goes over its own examples/configs/sft.yaml, see train.sh.
defaults: ${{oc.env:NEMO_RL}}/examples/configs/sft.yaml

sft:
  max_num_epochs: {epochs}
  max_num_steps: {steps}
  val_period: 0
  val_at_start: false
  seed: {seed}
  only_unmask_final: false # the adapter counts the tokens of all replies

checkpointing:
  checkpoint_dir: checkpoints
  metric_name: null # no validation to choose by
  save_period: 100

policy:
  model_name: {model}
  tokenizer:
    chat_template: default # NeMo-RL's own example has a template without tools
  train_global_batch_size: {batch} # weights act between the rows of one step
  train_micro_batch_size: 1
  max_total_sequence_length: 8192
  dtensor_cfg:
    lora_cfg:
      enabled: true # false for a full fine-tune, with a learning rate of about 5.0e-6
      dim: 32
      alpha: 64
  optimizer:
    kwargs:
      lr: 1.0e-4

data:
  _override_: true # nothing of the section in NeMo-RL's own example is kept
  max_input_seq_length: ${{policy.max_total_sequence_length}}
  add_bos: false # the chat template has all tokens that belong there
  add_eos: false
  add_generation_prompt: false
  shuffle: {shuffle}
  num_workers: 1
  train:
{datasets}
  validation: null
  default:
    prompt_file: null
    system_prompt_file: null
    processor: sft_processor # the adapter puts its own around it

logger:
  wandb_enabled: false
  tensorboard:
    log_dir: tensorboard
  wandb:
    name: trajweight
  swanlab:
    name: trajweight
  mlflow:
    run_name: trajweight
"""

_DATASET: Final = """\
    - dataset_name: nemo_rl_sft.WeightedDataset
      data_path: {file}
      weight_objective: sequence-mean # or token-weighted: long trajectories count more
"""

_SCRIPT: Final = """\
#!/bin/sh
# Run it from inside this folder. NEMO_RL is where NVIDIA-NeMo/RL is checked out, at v0.7.0.
set -e
: "${NEMO_RL:?set it to the folder of NeMo-RL}"
export NEMO_RL PYTHONPATH="$PWD:${PYTHONPATH:-}"
uv run --project "$NEMO_RL" python "$NEMO_RL/examples/run_sft.py" --config nemo_rl_sft.yaml
"""


class NemoRl(Target):
    """NeMo-RL 0.7; a dataset of ours fills in the multiplier of every row."""

    name = "nemo-rl"
    title = "NeMo-RL SFT"
    checked = ("nemo-rl 0.7.0 (source, 7ea279a)",)
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "NeMo-RL has a multiplier for every row, and reads it from no file.", "adapter"
        ),
        "buckets": Refusal("NeMo-RL joins its datasets and knows no rates for them.", "resample"),
        "tokenized": Refusal("NeMo-RL's SFT reads messages, not tokens.", "adapter"),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = dict.fromkeys(modes, _ADAPTER)

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages up to the last reply, tools, and in mode adapter the weight.

        Arguments of tool calls are objects, as chat templates print them; NeMo-RL reads each line
        by itself, so that they may differ.

        Raises:
            UnusableError: If the row has no reply.
        """
        row: Row = {"messages": ending_in_reply(messages_of(example, flags=True))}
        for message in row["messages"]:
            if "tool_calls" in message:
                message["tool_calls"] = [_decoded(call) for call in message["tool_calls"]]
        if example.tools is not None:
            row["tools"] = example.tools
        return {**row, "weight": example.weight} if mode == "adapter" else row

    def remark(self, example: Example, mode: Mode) -> str:
        """What comes after the last reply."""
        del mode
        is_whole = example.messages[-1]["role"] == "assistant"
        return "" if is_whole else "had messages after the last reply, which are left out"

    def files(self, plan: Plan) -> Mapping[str, str]:
        """A config over NeMo-RL's own, and the call of its program."""
        rows = sum(file.n_rows for file in plan.data)
        batch = max(1, min(_BATCH, rows))
        epochs = 1 if plan.mode == "resample" else 3
        config = _CONFIG.format(
            mode=plan.mode,
            epochs=epochs,
            steps=epochs * max(1, rows // batch),
            seed=plan.seed,
            model=json.dumps(plan.model),
            batch=batch,
            shuffle="false" if plan.mode == "resample" else "true",
            datasets="".join(
                _DATASET.format(file=json.dumps(file.name)) for file in plan.data
            ).rstrip("\n"),
        )
        return {"nemo_rl_sft.yaml": config, "train.sh": _SCRIPT}

    def told(self, plan: Plan) -> Told:
        """That the step decides, and that it was read and not run."""
        acts = (
            "`nemo_rl_sft.py` sets the `loss_multiplier` of row i to w_i / T_i with T_i its "
            "trained tokens. NeMo-RL multiplies the token mask by it, sums over the global batch, "
            "and divides by the sum of the mask: the weighted mean over trajectories."
        )
        if plan.mode != "adapter":
            acts = (
                "The rows carry no weight: how often they are read is what they count. Each counts "
                "by its tokens as in NeMo-RL itself; "
                "`nemo_rl_sft.py` only reads them line by line, so that tools stay as they are."
            )
        return Told(
            acts=acts,
            command="NEMO_RL=/path/to/RL sh train.sh",
            install=(
                "git clone --recursive --branch v0.7.0 https://github.com/NVIDIA-NeMo/RL "
                "&& (cd RL && uv sync)"
            ),
            traps=(
                "NeMo-RL is not on PyPI, and `verify-export` cannot ask it. Its dataset, collator "
                "and loss gave the weighted gradient on a CPU; its workers were only read.",
                "The divisor is the weight of the step: a `train_global_batch_size` of 1 cancels "
                "every weight, and a small one blunts them.",
                "A row longer than `max_total_sequence_length` counts nothing; its weight is lost.",
                "The header of a reply, such as `<|im_start|>assistant`, is trained on with it.",
            ),
            is_exact=plan.mode == "adapter",
        )


def _decoded(call: Row) -> Row:
    function = call["function"]
    try:
        arguments = decode(function["arguments"])
    except NotJsonError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}

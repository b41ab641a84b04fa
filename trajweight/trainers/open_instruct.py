"""open-instruct: no weights, but a list of files with the number of rows to draw from each."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.conversations import CHAT_SCHEMA, chat_row
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Container, DataFile, Example, Mode, Plan, Row

_NEAREST: Final = Refusal(
    "its trainer takes the loss of the model, which knows tokens and labels alone.", "resample"
)

_SCRIPT: Final = """\
#!/bin/sh
# Fine-tunes with open-instruct, {mode}; run it from inside this folder. OPEN_INSTRUCT is where
# allenai/open-instruct is checked out. A number of rows has no decimal point, a share of a file
# has one: "1" is one row and "1.0" is the whole file.
set -e
: "${{OPEN_INSTRUCT:?set it to the folder of open-instruct}}"
export PYTHONPATH="$OPEN_INSTRUCT:${{PYTHONPATH:-}}"
uv run --project "$OPEN_INSTRUCT" accelerate launch \\
  --mixed_precision bf16 \\
  --num_processes 1 \\
  "$OPEN_INSTRUCT/open_instruct/finetune.py" \\
  --model_name_or_path {model} \\
  --tokenizer_name {model} \\
  --dataset_mixer_list {mixture} \\
  --dataset_skip_cache \\
  --max_seq_length 8192 \\
  --per_device_train_batch_size 8 \\
  --gradient_accumulation_steps 4 \\
  --packing \\
  --gradient_checkpointing \\
  --use_lora \\
  --lora_rank 32 \\
  --lora_alpha 64 \\
  --learning_rate 1e-4 \\
  --lr_scheduler_type linear \\
  --warmup_ratio 0.03 \\
  --num_train_epochs {epochs} \\
  --seed {seed} \\
  --logging_steps 5 \\
  --push_to_hub False \\
  --try_launch_beaker_eval_jobs False \\
  --output_dir output
"""


class OpenInstruct(Target):
    """open-instruct's SFT: rows in proportion to their weights, or files of rows of like weight."""

    name = "open-instruct"
    title = "open-instruct SFT"
    checked = ("open-instruct e6c3044 (source, 2026-08-20)",)
    modes: ClassVar[tuple[Mode, ...]] = ("resample", "buckets", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = dict.fromkeys(
        ("native", "adapter", "tokenized"), _NEAREST
    )
    container: ClassVar[Container] = "parquet"
    schema = CHAT_SCHEMA

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, and tools as JSON text, which open-instruct decodes."""
        del mode
        return chat_row(example, weight=None, flags=False)

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The call of open-instruct's program."""
        script = _SCRIPT.format(
            mode=plan.mode,
            model=shlex.quote(plan.model),
            mixture=" ".join(f"{file.name} {_amount(file, plan)}" for file in plan.data),
            epochs=3 if plan.mode == "filter" else 1,
            seed=plan.seed,
        )
        return {"train.sh": script}

    def told(self, plan: Plan) -> Told:
        """That micro-batches are averaged one by one."""
        acts = {
            "resample": "A trajectory stands in the file of an epoch as often as was drawn for it.",
            "buckets": "Files hold trajectories of like weight. The list of files says how many "
            "rows are taken of each: whole copies of the file, and the rest by chance.",
        }.get(plan.mode, "Kept trajectories count alike.")
        return Told(
            acts=f"{acts} Rows carry no weight, and each counts by its tokens.",
            command="OPEN_INSTRUCT=/path/to/open-instruct sh train.sh",
            install=(
                "git clone https://github.com/allenai/open-instruct "
                "&& (cd open-instruct && uv sync)"
            ),
            traps=(
                "The script was never run here: open-instruct needs a GPU. What stands here was "
                "read from its source.",
                "`--packing` puts several rows into one, which may be copies of one trajectory; "
                "leave it out if that matters more than speed.",
                "The loss is a mean over the tokens of one micro-batch, and accumulation averages "
                "those means. With one row a micro-batch, long trajectories count less than they "
                "were drawn for; keep eight rows or more in it.",
                "The cache of tokenised data does not see that a file has changed under the same "
                "name; `--dataset_skip_cache` makes it new.",
                "Arguments of tool calls are JSON text; templates that print them with `tojson` "
                "quote them once more.",
                "`finetune.py` is open-instruct's older program, for any model of transformers; "
                "`olmo_core_finetune.py` takes the same files as `--mixer_list`.",
            ),
            is_exact=False,
        )


def _amount(file: DataFile, plan: Plan) -> str:
    """How many rows to take of a file, as open-instruct reads it."""
    if plan.mode != "buckets":
        return "1.0"
    return str(max(1, round(file.rate * plan.n_examples)))

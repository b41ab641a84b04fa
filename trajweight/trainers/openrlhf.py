"""OpenRLHF: its SFT trainer sums a float mask over the optimiser step, which may hold weights."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.conversations import CHAT_SCHEMA, chat_row, ending_in_reply
from trajweight.trainers.protocol import Refusal, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Container, Example, Mode, Plan, Row

_ADAPTER: Final = ("openrlhf_sft.py",)
#: Rows of an optimiser step; OpenRLHF trains on no step that is not full.
_BATCH: Final = 64

_SCRIPT: Final = """\
#!/bin/sh
# Fine-tunes with OpenRLHF 0.11, {mode}; run it from inside this folder. LoRA: for a full fine-tune
# take rank 0 and a learning rate of about 1e-5. openrlhf_sft.py takes every flag of
# openrlhf.cli.train_sft; TRAJWEIGHT_OBJECTIVE=token-weighted counts long trajectories more.
set -e
deepspeed openrlhf_sft.py \\
  --model.model_name_or_path {model} \\
  --data.dataset {files} \\
  --data.input_key messages \\
  --data.multiturn \\
  --data.apply_chat_template \\
  --data.max_len 8192 \\
  --train.batch_size {batch} \\
  --train.micro_batch_size 1 \\
  --train.max_epochs {epochs} \\
  --train.seed {seed} \\
  --adam.lr 1e-4 \\
  --lr_warmup_ratio 0.03 \\
  --max_norm 1.0 \\
  --ds.lora.rank 32 \\
  --ds.lora.alpha 64 \\
  --ds.zero_stage 2 \\
  --ds.param_dtype bf16 \\
  --model.gradient_checkpointing_enable \\
  --ckpt.output_dir checkpoint
"""


class OpenRlhf(Target):
    """OpenRLHF 0.11; a subclass of its dataset puts weights into the mask, and tools in."""

    name = "openrlhf"
    title = "OpenRLHF SFT"
    checked = ("openrlhf 0.11.2",)
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "buckets", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal("OpenRLHF drops every column of the data but the text.", "adapter"),
        "tokenized": Refusal("OpenRLHF's SFT program reads messages, not tokens.", "adapter"),
    }
    container: ClassVar[Container] = "parquet"
    keeps_turn_flags = True
    schema = CHAT_SCHEMA
    #: In every mode: OpenRLHF itself calls the chat template without tools.
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = dict.fromkeys(modes, _ADAPTER)
    probe = "openrlhf"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages up to the last reply, tools as JSON text, and in mode adapter the weight.

        OpenRLHF takes the last message for the reply, and would cut a row that ends otherwise in
        the middle of a word.

        Raises:
            UnusableError: If the row has no reply.
        """
        row = chat_row(example, weight=example.weight if mode == "adapter" else None)
        return {**row, "messages": ending_in_reply(row["messages"])}

    def remark(self, example: Example, mode: Mode) -> str:
        """What comes after the last reply."""
        del mode
        is_whole = example.messages[-1]["role"] == "assistant"
        return "" if is_whole else "had messages after the last reply, which are left out"

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The call of OpenRLHF's own program, through ours."""
        rows = sum(file.n_rows for file in plan.data)
        files = ",".join(file.name for file in plan.data)
        mixture = ""
        if plan.mode == "buckets":
            rates = ",".join(f"{file.rate:.6f}" for file in plan.data)
            mixture = f" \\\n  --data.dataset_probs {rates}"
        script = _SCRIPT.format(
            mode=plan.mode,
            model=shlex.quote(plan.model),
            files=shlex.quote(files) + mixture,
            batch=max(1, min(_BATCH, rows)),
            epochs=1 if plan.mode in ("resample", "buckets") else 3,
            seed=plan.seed,
        )
        return {"train.sh": script}

    def told(self, plan: Plan) -> Told:
        """That the step decides."""
        acts = (
            "`openrlhf_sft.py` sets the loss mask of row i to w_i / T_i on its T_i trained tokens. "
            "OpenRLHF sums mask times loss over the optimiser step, all ranks and micro-batches, "
            "and divides by the sum of the mask: the weighted mean over trajectories."
        )
        if plan.mode != "adapter":
            acts = (
                "The rows carry no weight: how often they are read is what they count. Each counts "
                "by its tokens as in OpenRLHF itself; "
                "`openrlhf_sft.py` only gives tools to the chat template."
            )
        traps = [
            "`python -m openrlhf.cli.train_sft` in place of `openrlhf_sft.py` trains without "
            "weights and without tools, and says nothing.",
            "The divisor is the weight of the step: a `--train.batch_size` of 1 cancels every "
            "weight, and a small one blunts them. Micro-batches may be as small as you like.",
            "OpenRLHF finds replies by the length of what comes before them: with a template that "
            "drops earlier reasoning the masks are wrong, and nothing says so.",
            "OpenRLHF 0.11.2 trains the last token of a shorter row in a micro-batch to predict "
            "padding. In mode adapter it does not; in others, take micro-batches of one.",
            "A row whose last prompt is longer than `--data.max_len` is left out in silence.",
            "The rows of a last step that is not full are not trained on.",
        ]
        if plan.mode == "resample":
            traps.append(
                "OpenRLHF shuffles the files of all epochs together: counts stay, but an epoch is "
                "no longer a file, and copies may come to stand side by side."
            )
        if plan.mode == "buckets":
            traps.append(
                "`--data.dataset_probs` draws until the last file is used up, so an epoch is "
                "longer than the data; `--data.max_samples` bounds it."
            )
        return Told(
            acts=acts,
            command="sh train.sh",
            install="pip install openrlhf==0.11.2",
            traps=tuple(traps),
            is_exact=plan.mode == "adapter",
        )

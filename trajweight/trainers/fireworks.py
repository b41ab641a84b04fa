"""Fireworks: a float ``weight`` at the root of each row, read by their managed fine-tuning."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.services import epochs, service_row, size_trap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

#: Rows of a dataset, by their documentation.
_LEAST: Final = 3
_MOST: Final = 3_000_000
_HOSTED: Final = "The loss is computed on their machines, where no code of ours runs."
_SCRIPT: Final = """\
#!/usr/bin/env bash
# Uploads the rows and starts a supervised fine-tuning job: bash train.sh
# Needs firectl, logged in (firectl signin), and these, which may be set before:
set -euo pipefail
# The name of the model at Fireworks (firectl model list -a fireworks), not its name on the Hub.
DEFAULT_MODEL={model}
BASE_MODEL="${{BASE_MODEL:-$DEFAULT_MODEL}}"
DATASET="${{DATASET:-trajweight-rows}}"
OUTPUT_MODEL="${{OUTPUT_MODEL:-trajweight-model}}"

# All files of rows, one after the other: a job reads one, and goes over it EPOCHS times.
cat {data} > data/all.jsonl
firectl dataset create "$DATASET" data/all.jsonl
firectl supervised-fine-tuning-job create \\
  --base-model "$BASE_MODEL" \\
  --dataset "$DATASET" \\
  --output-model "$OUTPUT_MODEL" \\
  --epochs "${{EPOCHS:-{epochs}}}" \\
  --learning-rate "${{LEARNING_RATE:-0.0001}}"
"""


class Fireworks(Target):
    """Fireworks: every row has its weight, replies that may not be trained on have weight 0."""

    name = "fireworks"
    title = "Fireworks managed fine-tuning"
    checked = (
        "docs.fireworks.ai (fine-tuning/weighted-training, fine-tuning-models, "
        "debug-sft-tokenization; firectl dataset create, supervised-fine-tuning-job create)",
        "fw-ai/cookbook training/utils/losses.py (read)",
    )
    modes: ClassVar[tuple[Mode, ...]] = ("native", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "adapter": Refusal(_HOSTED, "native"),
        "buckets": Refusal("A job reads one dataset and knows no rates.", "native"),
        "tokenized": Refusal("A job reads messages and tokenises them itself.", "native"),
    }
    keeps_turn_flags = True

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, tools and the weight.

        Raises:
            UnusableError: If the service would refuse it.
        """
        row = service_row(example, has_reasoning=True)
        if mode == "native":
            row["weight"] = example.token_weight
        return row

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The upload and the job, for firectl."""
        data = " ".join(shlex.quote(file.name) for file in plan.data)
        model = shlex.quote(plan.model)
        return {"train.sh": _SCRIPT.format(model=model, data=data, epochs=epochs(plan))}

    def told(self, plan: Plan) -> Told:
        """What is documented, and what is not."""
        if plan.mode == "native":
            acts = (
                "Fireworks multiplies the loss of each row by its root `weight`; every row has "
                "one. By what divisor is not documented. Their public cookbook divides the sum "
                "over tokens by the sum of the token weights of the batch, so these weights are "
                "w_i mean(T) / T_i. None of this was run: it needs an account."
            )
        else:
            acts = "The rows carry no weight: how often they stand in the file is what they count."
        traps = [
            "The weight is documented for reinforcement fine-tuning; for supervised jobs the page "
            "on debugging names it. Download Render Samples of the job and see that token_weights "
            "differ from row to row.",
            "If you add rows, give each a weight: mixing rows with and without is not supported.",
        ]
        if plan.mode != "native":
            traps = []
        return Told(
            acts=acts,
            command="bash train.sh",
            install="See https://docs.fireworks.ai/tools-sdks/firectl/firectl for firectl.",
            traps=(*traps, *size_trap(plan, least=_LEAST, most=_MOST)),
            is_exact=False,
        )

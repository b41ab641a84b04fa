"""Together: no weights, so copies; messages, tools and reasoning in JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.services import check_alternation, job_script, service_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

_SCRIPT: Final = '''\
"""Upload the rows and start a fine-tuning job at Together.

    TOGETHER_API_KEY=... python train.py

The model must be one that Together fine-tunes, by its name there.
"""

import shutil
from pathlib import Path

from together import Together

@head@

if __name__ == "__main__":
    client = Together()
    rows = client.files.upload(one_file(), purpose="fine-tune", check=True)
    job = client.fine_tuning.create(
        training_file=rows.id,
        model=MODEL,
        n_epochs=EPOCHS,
        learning_rate=1e-5,
        lora=True,
        train_on_inputs=False,
        random_seed=SEED,
    )
    print(f"job {job.id}: together fine-tuning retrieve {job.id}")
'''


class Together(Target):
    """Together: resampled files, one job over all of them."""

    name = "together"
    title = "Together fine-tuning"
    checked = (
        "together 3.1.1 (its check_file was run on rows and files of this export)",
        "together 1.5.35 (its stricter check_file was run on rows without tools)",
        "docs.together.ai (fine-tuning/data-preparation, function-calling, reasoning)",
    )
    modes: ClassVar[tuple[Mode, ...]] = ("resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "Together reads no weight of a row; that of a message is 0 or 1.", "resample"
        ),
        "adapter": Refusal(
            "The loss is computed on their machines, where no code of ours runs.", "resample"
        ),
        "buckets": Refusal("A job reads one file and knows no rates.", "resample"),
        "tokenized": Refusal(
            "Together's Parquet has the columns input_ids, attention_mask, labels and "
            "position_ids and refuses every other, so the weights of tokens cannot go along.",
            "resample",
        ),
    }
    keeps_turn_flags = True

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages and tools.

        Raises:
            UnusableError: If the service would refuse it.
        """
        del mode
        row = service_row(example, has_reasoning=True)
        if row["messages"][0]["role"] not in ("system", "user"):
            message = "it begins with neither system nor user"
            raise UnusableError(message)
        check_alternation(row["messages"])
        return row

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The upload and the job."""
        return {"train.py": job_script(_SCRIPT, plan)}

    def told(self, plan: Plan) -> Told:
        """That copies are all there is."""
        acts = "Together knows no weights: how often a row stands in the file is what it counts."
        traps: tuple[str, ...] = (
            "Together packs several rows into a sequence unless packing=False is given, and then "
            "copies may be packed together; steps are fewer than rows over batch size.",
            "A reply with weight 0 is left out of the loss by the message's own `weight`, which "
            "older releases of their client check; that the service obeys it was not tried.",
            "Rows are also checked by the service after the upload, by rules that are not public.",
        )
        if plan.has_tools:
            traps += ("Only some models can be trained on tool calls; see their list.",)
        return Told(
            acts=acts,
            command="python train.py",
            install="pip install 'together>=3'",
            traps=traps,
            is_exact=False,
        )

"""OpenAI: no weights but 0 or 1 for a message, so copies; their chat format to the letter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.services import (
    check_answers,
    drops_reasoning,
    job_script,
    service_row,
    size_trap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

#: Rows of a training file, by their guide.
_LEAST: Final = 10
_MOST_TOOLS: Final = 128
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SCRIPT: Final = '''\
"""Upload the rows and start a supervised fine-tuning job at OpenAI.

    OPENAI_API_KEY=... python train.py

The model must be one that OpenAI fine-tunes, by its name there, such as gpt-4o-mini.
"""

import shutil
from pathlib import Path

from openai import OpenAI

@head@

if __name__ == "__main__":
    client = OpenAI()
    with one_file().open("rb") as stream:
        rows = client.files.create(file=stream, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=rows.id,
        seed=SEED,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": EPOCHS}}},
    )
    print(f"job {job.id}: {job.status}")
'''


class OpenAi(Target):
    """OpenAI: resampled files, one job over all of them."""

    name = "openai"
    title = "OpenAI fine-tuning"
    checked = (
        "openai 3.54.0 (the calls of its client were read)",
        "the schema FineTuneChatRequestInput of OpenAI's API 2.3.0, from a mirror",
    )
    modes: ClassVar[tuple[Mode, ...]] = ("resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "OpenAI reads no weight of a row; that of a message is the integer 0 or 1.", "resample"
        ),
        "adapter": Refusal(
            "The loss is computed on their machines, where no code of ours runs.", "resample"
        ),
        "buckets": Refusal("A job reads one file and knows no rates.", "resample"),
        "tokenized": Refusal("OpenAI reads messages and tokenises them itself.", "resample"),
    }
    keeps_turn_flags = True

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages and tools.

        Raises:
            UnusableError: If the service would refuse it.
        """
        del mode
        row = service_row(example, has_reasoning=False)
        check_answers(row["messages"])
        tools = row.get("tools", ())
        if len(tools) > _MOST_TOOLS:
            message = f"more than {_MOST_TOOLS} tools"
            raise UnusableError(message)
        called = (call for each in row["messages"] for call in each.get("tool_calls", ()))
        for name in (each["function"]["name"] for each in (*tools, *called)):
            if not _NAME.fullmatch(name):
                message = "a tool whose name has other signs than letters, digits, _ and -"
                raise UnusableError(message)
        return row

    def remark(self, example: Example, mode: Mode) -> str:
        """Reasoning, which OpenAI does not read."""
        del mode
        return "had reasoning, which OpenAI does not read" if drops_reasoning(example) else ""

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The upload and the job."""
        return {"train.py": job_script(_SCRIPT, plan)}

    def told(self, plan: Plan) -> Told:
        """That copies are all there is, and that the platform is closing."""
        return Told(
            acts="OpenAI knows no weights: how often a row stands in the file is what it counts.",
            command="python train.py",
            install="pip install 'openai>=2'",
            traps=(
                "Fine-tuning at OpenAI is closed to new users.",
                "A file is refused as a whole for one row over the token limit of the model, "
                "which is not checked here.",
                *size_trap(plan, least=_LEAST),
            ),
            is_exact=False,
        )

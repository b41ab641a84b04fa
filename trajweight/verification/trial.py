"""Small exports to put to a trainer: a few rows, written as the export in question was.

The first rows are alike but for their weight: the same turns, the same number of tokens, only other
digits. The last one is longer, so that a conversion by length shows as well.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.export.data_files import write_rows
from trajweight.export.exporting import write_beside
from trajweight.resampling import order
from trajweight.trainers import DataFile, Example, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trajweight.trainers import Mode, Row, Target

#: What rows count, mean one; the last one is of another length.
WEIGHTS: Final = (0.4, 1.6, 0.8, 1.2)
N_ALIKE: Final = 3
#: In mode resample, how often the rows are written.
COPIES: Final = (1, 4, 1, 2)
#: Modes in which rows carry their weight, and can be told to.
WEIGHTED: Final[tuple[Mode, ...]] = ("native", "adapter", "tokenized")
#: So many that a few tokens more or less a turn, where trainers differ, hardly show.
_DIGITS, _LONG_DIGITS = 160, 480


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A row to ask about.

    Attributes:
        row: As a run's table has it.
        tokens: Its trained tokens.
    """

    row: dict[str, Any]
    tokens: int


def trial_rows(count_tokens: Callable[[dict[str, Any]], int]) -> tuple[TrialRow, ...]:
    """The rows, by the same digits each time.

    Args:
        count_tokens: The trained tokens of a row.
    """
    draw = random.Random(0)
    lengths = [_DIGITS] * N_ALIKE + [_LONG_DIGITS] * (len(WEIGHTS) - N_ALIKE)
    rows = [_row(number, length, draw) for number, length in enumerate(lengths)]
    return tuple(TrialRow(row, count_tokens(row)) for row in rows)


@dataclass(frozen=True, slots=True)
class Trial:
    """How small exports are written.

    Attributes:
        target: Whose.
        mode: How weights act.
        plan: That of the export in question; its numbers are replaced.
        own_files: Configs that were changed since it was written, by name their text.
        encode: In mode tokenized, what makes a row of an example.
    """

    target: Target
    mode: Mode
    plan: Plan
    own_files: dict[str, str]
    encode: Callable[[Example], Row] | None = None

    def write(self, folder: Path, rows: Sequence[TrialRow], weights: Sequence[float]) -> None:
        """Write rows with their weights, of mean one, as a whole export."""
        tokens = [each.tokens for each in rows]
        mean_tokens = float(np.mean(tokens))
        examples = [
            Example(each.row, weight, weight * mean_tokens / each.tokens)
            for each, weight in zip(rows, weights, strict=True)
        ]
        made = [self._row(example) for example in examples]
        name = self.plan.data[0].name
        container = "parquet" if self.mode == "tokenized" else self.target.container
        schema = self.target.schema
        if self.mode == "tokenized":
            from trajweight.export.tokenized import SCHEMA as schema
        write_rows(folder / name, made, container, schema)
        plan = replace(
            self.plan,
            data=(DataFile(name, len(made)),),
            n_examples=len(made),
            mean_tokens=mean_tokens,
            has_tools=False,
            n_untrained=0,
        )
        write_beside(folder, self.target, plan)
        for file, text in self.own_files.items():
            (folder / file).write_text(text, "utf-8")

    def _row(self, example: Example) -> Row:
        return self.encode(example) if self.encode else self.target.row(example, self.mode)


def copied(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The rows as often as `COPIES` says, in an order of resampling."""
    return [rows[number] for number in order(np.array(COPIES[: len(rows)]), seed=0).tolist()]


def _row(number: int, n_digits: int, draw: random.Random) -> dict[str, Any]:
    """A row of two exchanges; every digit is a token."""
    reply = "".join(draw.choices("0123456789", k=n_digits))
    question = "".join(draw.choices("0123456789", k=8))
    half = n_digits // 2
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply[:half]},
        {"role": "user", "content": question[::-1]},
        {"role": "assistant", "content": reply[half:]},
    ]
    return {
        "traj_id": f"trial-{number}",
        "source": "trial",
        "origin": "synthetic",
        "split": "train",
        "task_id": f"trial-{number}",
        "origin_format": "messages",
        "messages_json": json.dumps(messages),
        "tools_json": None,
        "extra_json": json.dumps({"id": f"trial-{number}", "messages": None}),
    }

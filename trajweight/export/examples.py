"""The outgoing trajectories with their texts, and the rows that a target makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajweight.formats import UnusableError
from trajweight.trainers import Example
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trajweight.export.outgoing import Outgoing
    from trajweight.progress import Progress
    from trajweight.run import Run
    from trajweight.trainers import Mode, Row, Target


def examples_of(run: Run, going: Outgoing, progress: Progress) -> Iterator[tuple[int, Example]]:
    """The outgoing rows, piece by piece, each with its number among them."""
    number_of = np.full(going.n_in_run, -1, dtype=np.int64)
    number_of[going.rows["place"].to_numpy()] = np.arange(going.rows.height)
    facts = going.rows.select("weight", "token_weight", "split")
    progress.start("writing", going.rows.height)
    first = 0
    for batch in run.trajectory_batches(*TEXT_COLUMNS):
        numbers = number_of[first : first + batch.height]
        first += batch.height
        numbers, is_going = numbers[numbers >= 0], pl.Series(numbers >= 0)
        told = facts[numbers.tolist()].iter_rows()
        rows = batch.drop("split", strict=False).filter(is_going).iter_rows(named=True)
        for number, row, (weight, token_weight, split) in zip(
            numbers.tolist(), rows, told, strict=True
        ):
            yield number, Example({**row, "split": split}, weight, token_weight)
            progress.advance()
    progress.finish()


@dataclass(slots=True)
class Seen:
    """What was seen of the trajectories while their rows were made.

    Attributes:
        refused: By number, why the target cannot read a trajectory.
        remarks: What was said of rows, and of how many.
        n_untrained: Trajectories with replies that may not be trained on.
        has_tools: Whether any has tools.
    """

    refused: dict[int, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    n_untrained: int = 0
    has_tools: bool = False


def rows_of(
    examples: Iterable[tuple[int, Example]],
    target: Target,
    mode: Mode,
    encode: Callable[[Example], Row] | None,
    seen: Seen,
) -> Iterator[tuple[int, Row]]:
    """The rows of a target; trajectories that it cannot read are told in ``seen``, not given.

    Args:
        examples: With their numbers.
        target: Where they go.
        mode: How weights act.
        encode: What makes the row instead, in mode tokenized.
        seen: Filled on the way.
    """
    for number, example in examples:
        try:
            row = encode(example) if encode else target.row(example, mode)
        except UnusableError as error:
            seen.refused[number] = f"that {target.title} cannot read: {error}"
            continue
        if remark := target.remark(example, mode):
            seen.remarks[remark] += 1
        seen.n_untrained += '"untrained"' in example.row["messages_json"]
        seen.has_tools |= example.row["tools_json"] is not None
        yield number, row

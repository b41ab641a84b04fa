"""The outgoing trajectories with their texts, and the rows that a target makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trajweight.export.refusals import Refusals
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
    """The outgoing rows, piece by piece, each with its place in the run."""
    progress.start("writing", going.rows.height)
    for batch, facts in going.beside(run.trajectory_batches(*TEXT_COLUMNS)):
        told = facts.select("place", "weight", "token_weight", "split").iter_rows()
        rows = batch.drop("split", strict=False).iter_rows(named=True)
        for row, (place, weight, token_weight, split) in zip(rows, told, strict=True):
            yield place, Example({**row, "split": split}, weight, token_weight)
            progress.advance()
    progress.finish()


@dataclass(slots=True)
class Seen:
    """What was seen of the trajectories while their rows were made.

    Attributes:
        refused: What the target cannot read, and why.
        remarks: What was said of rows, and of how many.
        n_untrained: Trajectories with replies that may not be trained on.
        has_tools: Whether any has tools.
    """

    refused: Refusals = field(default_factory=Refusals)
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
        examples: With their places.
        target: Where they go.
        mode: How weights act.
        encode: What makes the row instead, in mode tokenized.
        seen: Filled on the way.
    """
    for place, example in examples:
        try:
            row = encode(example) if encode else target.row(example, mode)
        except UnusableError as error:
            seen.refused.add(place, f"that {target.title} cannot read: {error}")
            continue
        if remark := target.remark(example, mode):
            seen.remarks[remark] += 1
        seen.n_untrained += '"untrained"' in example.row["messages_json"]
        seen.has_tools |= example.row["tools_json"] is not None
        yield place, row

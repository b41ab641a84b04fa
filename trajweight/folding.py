"""What the members of an ensemble judge by: tasks drawn again, or rows that changed places.

Where real rows are many, each further member has the validation tasks of the first, drawn again
with replacement. Where they are few it is cross-fitted: real training and validation rows are
divided anew by task, so that every member is judged by rows of its own and the rows that the first
one trained on judge too. Dev and test rows stay what they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from trajweight.returns import task_shares
from trajweight.weights import real_row_weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.config import RunConfig
    from trajweight.material import Material

#: With fewer real training and validation rows than this, what a head learns hangs on which rows
#: happened to judge, and a sample of the same few tasks would not show it (method, section 4.6).
FEW_REAL_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Folding:
    """How the members of an ensemble differ.

    Attributes:
        kind: Whether they differ in the rows that judge or in how often a task counts.
        why: A clause.
    """

    kind: Literal["cross-fitted", "resampled"]
    why: str

    @property
    def is_crossfitted(self) -> bool:
        """Whether every member has real rows, a warm-up and features of its own."""
        return self.kind == "cross-fitted"

    def __str__(self) -> str:
        """For the user."""
        return f"{self.kind} ensemble: {self.why}"


def folding_of(material: Material, config: RunConfig) -> Folding:
    """How the members of an ensemble are to differ, by the material of the first."""
    n = len(material.real) + len(material.validation)
    if config.data.validation_paths:
        return Folding("resampled", "the validation files say which rows judge")
    if not any(material.within[row] > 0 for row in material.real):
        return Folding("resampled", "no real training row could judge in another's place")
    if n >= FEW_REAL_ROWS:
        why = f"{n} real training and validation rows are {FEW_REAL_ROWS} or more"
        return Folding("resampled", why)
    why = f"{n} real training and validation rows are fewer than {FEW_REAL_ROWS}"
    return Folding("cross-fitted", why)


def resampled_tasks(material: Material, seed: int) -> Tensor:
    """Shares of the validation rows when their tasks are drawn again with replacement: (m,).

    What another sample of validation tasks would have taught differs as much as this does.
    """
    tasks = [material.tasks[row] for row in material.validation]
    names = list(dict.fromkeys(tasks))
    drawn = torch.randint(len(names), (len(names),), generator=torch.Generator().manual_seed(seed))
    times = Counter(names[place] for place in drawn.tolist())
    within = [material.within[row] for row in material.validation]
    return task_shares(within, tasks, [times[task] for task in tasks])


def refolded(material: Material, *, seed: int, real_share: float | None = None) -> Material:
    """The same rows, the real training and validation rows divided anew by task.

    A task is held out whole or trained on whole. The number of validation rows is the same but for
    less than a task. Rows that do not count in the outer loss do not judge, and where their task is
    held out they do not train either. A row trains only beside the tasks of all the real rows that
    it belongs with; synthetic rows that must not are in ``left_out``.

    Args:
        material: Of the first member.
        seed: Of the order in which tasks are held out.
        real_share: Share of the mass that real training rows keep; None where each counts as it
            does.
    """
    by_task: dict[str, list[int]] = {}
    for row in sorted([*material.real, *material.validation]):
        by_task.setdefault(material.tasks[row], []).append(row)
    judges = {
        task: [row for row in rows if material.within[row] > 0] for task, rows in by_task.items()
    }
    sizes = {task: len(rows) for task, rows in judges.items() if rows}
    held = _held_out(sizes, len(material.validation), seed)

    def trains(row: int) -> bool:
        tasks = {material.tasks[other] for other in material.related.get(row, ())}
        return tasks <= by_task.keys() - held

    real = [row for task, rows in by_task.items() if task not in held for row in rows]
    real = sorted(row for row in real if trains(row))
    left_out = frozenset(row for row in material.synthetic if not trains(row))
    weight = material.real_weight
    if real_share is not None:
        weight = real_row_weight(len(real), len(material.synthetic) - len(left_out), real_share)
    return replace(
        material,
        real=real,
        validation=sorted(row for task in held for row in judges[task]),
        real_weight=weight,
        left_out=left_out,
    )


def _held_out(sizes: Mapping[str, int], wanted: int, seed: int) -> set[str]:
    """Tasks in a random order, each where it brings the number of rows no farther from ``wanted``.

    One task at least is held out, and one is not.
    """
    tasks = list(sizes)
    order = torch.randperm(len(tasks), generator=torch.Generator().manual_seed(seed)).tolist()
    held: set[str] = set()
    n = 0
    for place in order:
        task = tasks[place]
        is_no_farther = abs(n + sizes[task] - wanted) <= abs(n - wanted)
        if is_no_farther and len(held) < len(tasks) - 1:
            held.add(task)
            n += sizes[task]
    return held or {min(tasks, key=lambda task: sizes[task])}

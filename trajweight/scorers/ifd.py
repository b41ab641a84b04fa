"""Instruction-following difficulty: how little what was said before helps to say the replies.

    IFD = mean loss of the replies after all that went before / mean loss of the replies alone

Both under the base model. Each reply of a dialogue is taken alone for itself: without the turns
before it, after nothing but the tokens that stand before every reply of every row, which are the
header that the chat template writes. Both means are over the same tokens, all replies of the row,
so a reply counts by its length. The authors keep the rows with the highest IFD below one; from one
on the context misleads, and such rows are put last, the worst at the very end.

Reference:
    Li et al., From Quantity to Quality, NAACL 2024, arXiv 2308.12032; of single replies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from trajweight.backbone import ADAPTER
from trajweight.encoded import Encoded
from trajweight.estimators.pullback import held_at
from trajweight.losses import OutputLayer, TrajectoryLosses
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.ground import Ground
    from trajweight.scorers.scorer import Needs, Pool

#: Nats a token; a reply that the model is surer of counts as this.
_LEAST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class InstructionFollowing:
    """Difficulty, the highest below one first."""

    name: str = "ifd"
    sentence: str = (
        "How hard the replies stay once the context is known, the highest below one first "
        "(instruction-following difficulty, Li et al. 2023)."
    )
    needs: Needs = "model"

    def score(self, pool: Pool) -> Scored:
        """The ratio where it is below one, else its negative."""
        found = difficulties(pool.ground()).double().numpy()
        return Scored(np.where(found < 1, found, -found))


def difficulties(ground: Ground) -> Tensor:
    """IFD of the synthetic rows: (n,)."""
    material, student = ground.material, ground.student
    rows = [material.encoded[row] for row in material.synthetic]
    others = [material.encoded[row] for row in (*material.real, *material.validation)]
    header = header_length([*rows, *others])
    place: dict[tuple[tuple[int, ...], tuple[bool, ...]], int] = {}  # many replies are alike
    replies: list[Encoded] = []
    of_row: list[list[int]] = []
    for row in rows:
        mine = []
        for reply in alone(row, header):
            key = tuple(reply.input_ids), tuple(reply.assistant_mask)
            if key not in place:
                place[key] = len(replies)
                replies.append(reply)
            mine.append(place[key])
        of_row.append(mine)
    # An adapter that has learned nothing changes nothing, so this is the base model.
    with held_at([linear.weight for linear in student.linears], ground.untrained):
        losses = TrajectoryLosses(
            student.backbone,
            replies,
            None,
            output=OutputLayer(student.backbone),
            pad_id=student.pad_id,
            forest_tokens=student.forest_tokens,
            adapter=ADAPTER,
            processes=student.processes,
        ).evaluate(range(len(replies)))
    counts = torch.tensor([sum(reply.assistant_mask[1:]) for reply in replies])
    means = [
        (losses[mine] * counts[mine]).sum() / counts[mine].sum().clamp_min(1) for mine in of_row
    ]
    return ground.frozen.losses.all[material.synthetic] / torch.stack(means).clamp_min(_LEAST)


def alone(row: Encoded, header: int) -> list[Encoded]:
    """Each reply of a row in a row of its own, after the last ``header`` tokens before it."""
    found = []
    for turn, (begin, end) in _spans(row).items():
        first = max(begin - header, 0)
        is_mine = [
            said and whose == turn
            for said, whose in zip(
                row.assistant_mask[first:end], row.turn_of_token[first:end], strict=True
            )
        ]
        turns = [turn if mine else -1 for mine in is_mine]
        found.append(Encoded(row.input_ids[first:end], is_mine, turns))
    return found


def header_length(rows: Sequence[Encoded]) -> int:
    """How many last tokens are the same before every reply; one at least, to predict from."""
    header: list[int] | None = None
    for row in rows:
        for begin, _ in _spans(row).values():
            before = row.input_ids[:begin]
            header = before if header is None else _common_end(header, before)
    return max(len(header or ()), 1)


def _spans(row: Encoded) -> dict[int, tuple[int, int]]:
    """Where each reply begins and ends, by its turn."""
    found: dict[int, tuple[int, int]] = {}
    for place, (said, turn) in enumerate(zip(row.assistant_mask, row.turn_of_token, strict=True)):
        if said:
            found[turn] = found.get(turn, (place, 0))[0], place + 1
    return found


def _common_end(one: list[int], other: list[int]) -> list[int]:
    """The longest end that both have."""
    n = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        n += 1
    return one[len(one) - n :]

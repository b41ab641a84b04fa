"""Token rows and what each is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.encoded import Encoded
    from trajweight.reweighting import Prior


@dataclass(frozen=True)
class Material:
    """Token rows and what each is for; roles are positions in ``encoded``.

    Attributes:
        encoded: Every row that could be tokenised.
        n_turns: Turns of each row, as read.
        tasks: Task of each row.
        sources: Source of each row.
        real: Real training rows.
        synthetic: Synthetic training rows.
        validation: Rows of the outer loss.
        dev: Rows that choose between weights; may be empty.
        real_weight: What each real training row counts.
        within: How much each row counts within its task, in the outer loss and on dev; for a real
            training row, how much it would.
        objective: What that means, as a sentence.
        prior: What returns make of the synthetic rows beforehand.
        related: By row, the real rows that it copies or was made together with; known where real
            rows are to change places.
        left_out: Synthetic training rows that get a weight and are not trained on.
    """

    encoded: list[Encoded]
    n_turns: list[int]
    tasks: list[str]
    sources: list[str]
    real: list[int]
    synthetic: list[int]
    validation: list[int]
    dev: list[int]
    real_weight: float
    within: list[float]
    objective: str
    prior: Prior | None
    related: Mapping[int, frozenset[int]] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()

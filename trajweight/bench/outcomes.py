"""What weights are worth where the truth was planted: whom they find, and by what else they go.

Only the order of the weights counts for AUROC and average precision, and equal weights share their
place: weights that are all equal have an AUROC of 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.correlations import spearman_of_ranks
from trajweight.analysis.discrimination import auroc, average_precision
from trajweight.analysis.facts import Facts
from trajweight.analysis.ranks import average_ranks
from trajweight.errors import DataError
from trajweight.weights import effective_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

#: Ranks are halves; what is left of one below this is rounding.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class WeightOutcome(Facts):
    """The part ``weights`` of a finished cell; None where a measure does not exist.

    Attributes:
        auroc: Good rows against all bad ones.
        average_precision: Of the good rows, from the heaviest row down.
        auroc_by_kind: All good rows against the bad rows of each kind.
        average_precision_by_kind: Of the good rows among themselves and the bad rows of each kind.
        good_auroc_by_kind: The good rows of each kind against all bad rows: where good actions in
            other words are punished, it is low.
        mean_by_kind: Mean weight of each kind, all rows together having mean one.
        ess_fraction: Effective sample size over the number of rows.
        length_correlation: Rank correlation of weight and length, kind held fixed.
        good_mass: Share of the mass on good rows.
    """

    auroc: float | None
    average_precision: float | None
    auroc_by_kind: dict[str, float]
    average_precision_by_kind: dict[str, float]
    good_auroc_by_kind: dict[str, float]
    mean_by_kind: dict[str, float]
    ess_fraction: float
    length_correlation: float | None
    good_mass: float


def outcome_of_weights(
    weights: Floats, *, kinds: Sequence[str], is_good: Bools, lengths: Floats
) -> WeightOutcome:
    """Hold weights against the truth.

    Args:
        weights: Finite, at least 0, not all 0. Shape (n,).
        kinds: Of each row: the name of a corruption, or of a way to be good. Length n.
        is_good: Which rows are worth imitating. Shape (n,).
        lengths: Of each row, in any unit. Shape (n,).

    Raises:
        DataError: If a weight is negative or not finite, if none is above zero, or if the columns
            do not have the same length.

    Example:
        >>> found = outcome_of_weights(
        ...     np.array([2.0, 1.0, 0.0]),
        ...     kinds=["expert", "looping", "shuffled"],
        ...     is_good=np.array([True, False, False]),
        ...     lengths=np.array([3.0, 9.0, 3.0]),
        ... )
        >>> found.auroc, found.auroc_by_kind, round(found.good_mass, 3)
        (1.0, {'looping': 1.0, 'shuffled': 1.0}, 0.667)
    """
    sizes = [len(weights), len(kinds), len(is_good), len(lengths)]
    if len(set(sizes)) > 1:
        message = f"weights, kinds, truth and lengths have {sizes} rows."
        raise DataError(message, hint="Give one of each for every row, in the same order.")
    total = float(weights.sum())
    if not (np.isfinite(weights).all() and weights.min(initial=0.0) >= 0 and total > 0):
        message = f"weights from {weights.min(initial=0.0)} with sum {total} cannot be judged."
        raise DataError(message, hint="Weights must be finite, at least 0, and not all 0.")
    kind = np.array(kinds)
    of_kind = {str(name): kind == name for name in np.unique(kind)}
    bad = {name: rows & ~is_good for name, rows in of_kind.items()}
    good = {name: rows & is_good for name, rows in of_kind.items()}
    against = {name: rows | is_good for name, rows in bad.items() if rows.any()}
    among = {name: rows | ~is_good for name, rows in good.items() if rows.any()}
    return WeightOutcome(
        auroc=auroc(weights, is_good),
        average_precision=average_precision(weights, is_good),
        auroc_by_kind=_present(
            {name: auroc(weights[rows], is_good[rows]) for name, rows in against.items()}
        ),
        average_precision_by_kind=_present(
            {
                name: average_precision(weights[rows], is_good[rows])
                for name, rows in against.items()
            }
        ),
        good_auroc_by_kind=_present(
            {name: auroc(weights[rows], is_good[rows]) for name, rows in among.items()}
        ),
        mean_by_kind={
            name: float(weights[rows].mean()) * len(weights) / total
            for name, rows in of_kind.items()
        },
        ess_fraction=effective_share(weights),
        length_correlation=rank_correlation_given(weights, lengths, kinds),
        good_mass=float(weights[is_good].sum()) / total,
    )


def rank_correlation_given(x: Floats, y: Floats, groups: Sequence[str]) -> float | None:
    """Pearson's correlation of what ranks keep of theirs when each group's mean is taken away.

    With one group it is Spearman's; a group is held fixed as a third column is in
    `correlations.rank_statistic`.

    Args:
        x: Finite. Shape (n,).
        y: Finite. Shape (n,).
        groups: The group of each row. Length n.

    Returns:
        None where inside the groups a side never varies.
    """
    _, code = np.unique(np.array(groups), return_inverse=True)
    sizes = np.bincount(code)
    left = []
    for side in (x, y):
        ranks = average_ranks(side)
        rest = ranks - (np.bincount(code, ranks) / sizes)[code]
        left.append(np.where(np.abs(rest) < _ROUNDING, 0.0, rest)[None, :])
    found = float(spearman_of_ranks(left, np.ones((1, len(x))))[0, 0])
    return found if np.isfinite(found) else None


def _present(areas: dict[str, float | None]) -> dict[str, float]:
    """Those that exist."""
    return {name: area for name, area in areas.items() if area is not None}

"""How many trajectories still count: effective sample size, overall and by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """How evenly a set of weights is spread.

    Attributes:
        n: Number of weights.
        mean: Their mean.
        mass_share: Their sum over the sum of the whole set they are part of, 0 to 1.
        ess: Effective sample size, 1 to n; 0 where no weight is above zero.
        ess_fraction: ``ess / n``, 0 to 1.
    """

    n: int
    mean: float
    mass_share: float
    ess: float
    ess_fraction: float


def spread(weights: Floats, *, of_mass: float | None = None) -> Spread:
    """The spread of some weights.

    Args:
        weights: Non-negative weights. Shape (n,).
        of_mass: Sum of the whole set; their own sum when not given.
    """
    n, mass = len(weights), float(weights.sum())
    whole = mass if of_mass is None else of_mass
    ess = float(effective_sample_size(weights)) if mass > 0 else 0.0
    return Spread(
        n=n,
        mean=mass / n if n else 0.0,
        mass_share=mass / whole if whole > 0 else 0.0,
        ess=ess,
        ess_fraction=ess / n if n else 0.0,
    )


def spread_by(table: pl.DataFrame, column: str) -> dict[str, Spread]:
    """The spread inside each group, the heaviest mean first, ties by name.

    Args:
        table: A table with ``weight`` (no nulls) and the grouping column.
        column: Name of the grouping column.
    """
    whole = float(table["weight"].sum())
    groups = {
        str(name): spread(group["weight"].to_numpy(), of_mass=whole)
        for (name,), group in table.group_by(column)
    }
    return dict(sorted(groups.items(), key=lambda item: (-item[1].mean, item[0])))


def top_mass(weights: Floats, k: int) -> float:
    """Share of the mass that the ``k`` heaviest weights hold, 0 to 1; 0 where there is no mass.

    Example:
        >>> top_mass(np.array([3.0, 1.0, 0.0, 0.0]), 1)
        0.75
    """
    mass = float(weights.sum())
    return float(np.sort(weights)[::-1][:k].sum()) / mass if mass > 0 else 0.0

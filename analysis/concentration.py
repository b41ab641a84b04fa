"""Who holds the mass: the Lorenz curve of the weights, its Gini coefficient, the heaviest rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Points of the curve, at equal distances from 0 to 1.
LORENZ_POINTS: Final = 101


@dataclass(frozen=True, slots=True)
class Concentration(Facts):
    """How unequal the weights are; shares are of the mass, None where there is no mass.

    Attributes:
        n: Rows.
        top_1: Share of the heaviest row.
        top_1_percent: Share of the heaviest hundredth of the rows, rounded up to whole rows.
        top_10_percent: Share of the heaviest tenth, rounded up.
        gini: 0 where all weigh the same, (n - 1) / n where one row holds everything.
        lorenz: Share of the mass that the lightest part of the rows holds, the part going from 0
            to 1 in steps of a hundredth. Shape (101,); the straight line from 0 to 1 is equality.
    """

    n: int
    top_1: float | None
    top_1_percent: float | None
    top_10_percent: float | None
    gini: float | None
    lorenz: tuple[float, ...] | None


def concentration(weights: Floats) -> Concentration:
    """How unequal some weights are.

    With x the weights in rising order, L(k/n) = sum_{i<=k} x_i / sum x, straight between; and

        G = sum_i (2 i - n - 1) x_i / (n sum x) = sum_ij |x_i - x_j| / (2 n sum x)

    which is one minus twice the area under L. No correction for small n.

    Args:
        weights: Non-negative weights. Shape (n,).

    Reference:
        Lorenz, Methods of measuring the concentration of wealth, 1905; Gini, Variabilita e
        mutabilita, 1912.

    Example:
        >>> found = concentration(np.array([3.0, 1.0, 0.0, 0.0]))
        >>> found.top_1, found.gini
        (0.75, 0.625)
    """
    n = len(weights)
    rising = np.sort(weights)
    held = np.concatenate([[0.0], np.cumsum(rising)])  # (n + 1,)
    mass = float(held[-1])
    if mass <= 0:
        return Concentration(n, None, None, None, None, None)
    held /= mass
    # Counted from the heavy end: one minus a sum near one would lose digits.
    falling = np.cumsum(rising[::-1]) / mass
    place = np.arange(1, n + 1)
    gini = float(((2.0 * place - n - 1.0) * (rising / mass)).sum()) / n
    parts = np.linspace(0.0, 1.0, LORENZ_POINTS)
    return Concentration(
        n=n,
        top_1=float(falling[0]),
        top_1_percent=float(falling[(n + 99) // 100 - 1]),
        top_10_percent=float(falling[(n + 9) // 10 - 1]),
        gini=max(gini, 0.0),
        lorenz=tuple(np.interp(parts, np.linspace(0.0, 1.0, n + 1), held).tolist()),
    )

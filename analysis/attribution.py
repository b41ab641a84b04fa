"""How much of the variance of the weights something simple explains: source, length, turns, ...

Each column is asked alone, all are asked together, and of each it is asked what goes when it
alone is left out. A column that explains much alone and little of its own only stands in for
another one.

    R^2 = 1 - (sum of squared residuals of least squares) / (sum of squares around the mean)

A column of names counts by its groups: alone, its R^2 is eta squared, the variance between the
groups over the whole. A numeric column counts by its ranks u in (0, 1), along a curve of straight
pieces that bends at the quartiles: u, (u - 1/4)+, (u - 1/2)+, (u - 3/4)+. So only the order of a
column matters, not its units or a few huge values, and a rise and fall is seen as well as a
slope. Rows that lack a number form a group of their own beside the curve.

Reference:
    Fisher, Statistical methods for research workers, 1925 (eta squared); Frisch and Waugh,
    Partial time regressions, Econometrica 1, 1933 (leaving the groups' means out first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import codes_of, floats_of
from trajweight.analysis.ranks import average_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_KNOTS: Final = (0.25, 0.5, 0.75)
#: A direction with less than this share of a column's variance is one that others span already.
_SPANNED: Final = 1e-8
#: A deviation below this share of the values' size is rounding, not a difference.
_ROUNDING: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Part(Facts):
    """What one column explains.

    Attributes:
        column: Its name.
        kind: "groups" for names, "curve" for numbers.
        n_missing: Rows that lack it.
        alone: R^2 of the column alone, 0 to 1; None where it is the same in all rows.
        own: What R^2 of all columns loses without this one; None as above.
        by_luck: The R^2 that as many free numbers explain on average in weights that have nothing
            to do with the column, rows being independent: k / (n - 1).
    """

    column: str
    kind: Literal["groups", "curve"]
    n_missing: int
    alone: float | None
    own: float | None
    by_luck: float | None


@dataclass(frozen=True, slots=True)
class Explained(Facts):
    """What the columns explain of the variance of the weights.

    Attributes:
        n: Rows.
        variance: Of the weights, around their mean.
        together: R^2 of all columns, 0 to 1; None where all weights are the same.
        by_luck: What as many free numbers explain on average where there is nothing to explain.
        parts: By column, in the order they were asked for.
    """

    n: int
    variance: float
    together: float | None
    by_luck: float | None
    parts: tuple[Part, ...]


def variance_explained(
    table: pl.DataFrame, *, numbers: Sequence[str], group: str | None = "source"
) -> Explained:
    """What source, length and other columns explain of the variance of ``weight``.

    Args:
        table: One row a trajectory, with ``weight`` (no nulls) and the columns.
        numbers: Numeric columns; nulls and numbers that are not finite count as missing.
        group: A column of names; the rows without a name are one group more.
    """
    weights = table["weight"].to_numpy().astype(np.float64)
    n = len(weights)
    codes = np.zeros(n, dtype=np.int64)
    if group is not None:
        codes, names = codes_of(table[group])
        codes = np.minimum(codes, len(names))
    found = [floats_of(table, column) for column in numbers]
    missing = [int(np.isnan(values).sum()) for values in found]
    variance = float(weights.var()) if n else 0.0
    mean = float(weights.mean()) if n else 0.0
    kinds: list[tuple[str, Literal["groups", "curve"], int]] = []
    if group is not None:
        kinds.append((group, "groups", table[group].null_count()))
    kinds += [(name, "curve", lacking) for name, lacking in zip(numbers, missing, strict=True)]
    if variance <= (_ROUNDING * mean) ** 2:  # all the same but for rounding
        parts = [Part(name, kind, lacking, None, None, None) for name, kind, lacking in kinds]
        return Explained(n, variance, None, None, tuple(parts))
    scatter = _Scatter.of(weights, codes, [curve(values) for values in found])
    every = list(range(len(numbers)))
    together, free = scatter.explained(every, with_groups=group is not None)
    parts = []
    for at, (name, kind, lacking) in enumerate(kinds):
        is_group = kind == "groups"
        place = at - (group is not None)
        mine = [] if is_group else [place]
        others = every if is_group else [other for other in every if other != place]
        alone, alone_free = scatter.explained(mine, with_groups=is_group)
        without, _ = scatter.explained(others, with_groups=group is not None and not is_group)
        if alone_free == 0:
            parts.append(Part(name, kind, lacking, None, None, None))
            continue
        own = max(together - without, 0.0)
        parts.append(Part(name, kind, lacking, alone, own, alone_free / (n - 1)))
    return Explained(n, variance, together, free / (n - 1), tuple(parts))


def curve(values: Floats) -> Floats:
    """What least squares sees of a numeric column: straight pieces of its ranks, and what is known.

    Args:
        values: NaN where missing. Shape (n,).

    Returns:
        The rank u = (average rank - 1/2) / (number known), its pieces beyond the quartiles, and 1
        where the value is missing; all pieces are 0 there. Shape (5, n).
    """
    known = ~np.isnan(values)
    found = np.zeros((2 + len(_KNOTS), len(values)))
    found[-1] = ~known
    u = (average_ranks(values[known]) - 0.5) / max(int(known.sum()), 1)
    for row, knot in enumerate((0.0, *_KNOTS)):
        found[row, known] = np.maximum(u - knot, 0.0)
    return found


@dataclass(frozen=True, slots=True)
class _Scatter:
    """Sums of products of all curves and the weights: all that least squares needs.

    Attributes:
        total: Around the means. Shape (q + 1, q + 1), the weights last.
        within: Around the means of the groups.
        n_rows: How many rows were summed over.
        n_groups: How many groups there are.
        width: Rows of one curve.
    """

    total: Floats
    within: Floats
    n_rows: int
    n_groups: int
    width: int

    @classmethod
    def of(cls, weights: Floats, codes: Ints, curves: Sequence[Floats]) -> _Scatter:
        rows = np.concatenate([*curves, (weights - weights.mean())[None]])  # (q + 1, n)
        means = rows.mean(axis=1)
        products = rows @ rows.T
        sizes = np.bincount(codes)
        sums = np.stack([np.bincount(codes, row) for row in rows])  # (q + 1, groups)
        return cls(
            total=products - len(weights) * np.outer(means, means),
            within=products - (sums / sizes) @ sums.T,
            n_rows=len(weights),
            n_groups=len(sizes),
            width=len(curves[0]) if curves else 0,
        )

    def explained(self, curves: list[int], *, with_groups: bool) -> tuple[float, int]:
        """R^2 of some curves, with or without the groups, and the free numbers it took."""
        around = self.within if with_groups else self.total
        whole = float(self.total[-1, -1])
        chosen = [at * self.width + row for at in curves for row in range(self.width)]
        left = max(float(around[-1, -1]), 0.0)
        free = self.n_groups - 1 if with_groups else 0
        if chosen:
            # The yardstick is a row's variance before the groups' means are left out: what is
            # constant inside every group leaves nothing but rounding. So does a constant row.
            squares = np.diag(self.total)
            chosen = [at for at in chosen if squares[at] > _ROUNDING**2 * self.n_rows]
            scale = 1.0 / np.sqrt(squares[chosen])
            inner = around[np.ix_(chosen, chosen)] * np.outer(scale, scale)
            lengths, directions = np.linalg.eigh(inner)
            kept = lengths > _SPANNED
            along = directions[:, kept].T @ (around[chosen, -1] * scale)
            left -= float((along * along / lengths[kept]).sum())
            free += int(kept.sum())
        return float(np.clip(1.0 - left / whole, 0.0, 1.0)), free

"""Rows that belong together, as whole numbers: what numpy can count by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def codes_of(names: pl.Series) -> tuple[Ints, list[str]]:
    """The position of each row's name among all names, in the order of the names.

    Rows without a name belong to nobody: each gets a code of its own behind the named ones, so
    there may be more codes than names.

    Args:
        names: What the rows are grouped by; other types are read as their text. Shape (n,).

    Returns:
        Codes from 0 on without a gap, shape (n,), and the names in the order of their codes.

    Example:
        >>> codes_of(pl.Series(["b", None, "a", "b"]))
        (array([1, 2, 0, 1]), ['a', 'b'])
    """
    texts = names.cast(pl.String)
    known = texts.drop_nulls().unique().sort()
    found = texts.cast(pl.Enum(known)).to_physical().cast(pl.Int64)
    missing = found.is_null().to_numpy()
    codes = found.fill_null(0).to_numpy().copy()
    codes[missing] = len(known) + np.arange(int(missing.sum()))
    return codes, known.to_list()


def tasks_of(table: pl.DataFrame, column: str) -> Ints:
    """Codes of the tasks; where the table has no such column every row is a task of its own.

    Args:
        table: One row a trajectory.
        column: Name of the column of tasks.
    """
    if column not in table.columns:
        return np.arange(table.height)
    return codes_of(table[column])[0]


def floats_of(table: pl.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where it is missing or not finite. Shape (n,)."""
    values = table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)

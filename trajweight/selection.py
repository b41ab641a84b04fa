"""Which rows of a run go out, and for each of the others the reason why it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from trajweight.errors import ConfigError
from trajweight.trajectory import ORIGINS, SPLITS, Origin, Split


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows go out. Weights filter synthetic rows only; real training rows stay.

    Attributes:
        splits: Splits to take; rows outside of "train" have no weight, and get null.
        origins: Origins to take.
        min_weight: Least weight of a synthetic row.
        top_k: How many synthetic rows to take, the heaviest first, ties by ``traj_id``.
        top_fraction: The same as a share of the run's synthetic training rows, rounded up.
    """

    splits: tuple[Split, ...] = ("train",)
    origins: tuple[Origin, ...] = ORIGINS
    min_weight: float | None = None
    top_k: int | None = None
    top_fraction: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for option, names, known in (
            ("--split", self.splits, SPLITS),
            ("--origin", self.origins, ORIGINS),
        ):
            strange = [name for name in names if name not in known]
            if strange or not names:
                message = f"{option} is {', '.join(strange) or 'empty'}; it must be among {known}."
                raise ConfigError(message)
        if self.min_weight is not None and not 0 <= self.min_weight < math.inf:
            message = f"--min-weight is {self.min_weight}; it must be a number of at least 0."
            raise ConfigError(message)
        if self.top_k is not None and self.top_k < 1:
            message = f"--top-k is {self.top_k}; it must be at least 1."
            raise ConfigError(message)
        if self.top_fraction is not None and not 0 < self.top_fraction <= 1:
            message = f"--top-fraction is {self.top_fraction}; it must be above 0 and at most 1."
            raise ConfigError(message)
        if self.top_k is not None and self.top_fraction is not None:
            message = "--top-k and --top-fraction both say how many rows to take."
            raise ConfigError(message, hint="Give one of the two.")


def reasons_left_out(rows: pl.DataFrame, filters: Filters) -> pl.Series:
    """For each row why it is left out, or null where it is taken; the first reason counts.

    Rows of weight zero train nothing and are never taken.

    Args:
        rows: With ``traj_id``, ``origin``, ``split`` and ``weight``.
        filters: What was asked for.

    Returns:
        Text or null, in the order of ``rows``.
    """
    synthetic, weight = pl.col("origin") == "synthetic", pl.col("weight")
    learned = rows.filter((pl.col("split") == "train") & synthetic).sort(
        "weight", "traj_id", descending=[True, False]
    )
    reason = (
        pl.when(~pl.col("split").is_in(filters.splits))
        .then("in split " + pl.col("split"))
        .when(~pl.col("origin").is_in(filters.origins))
        .then("of origin " + pl.col("origin"))
        .when(weight == 0)
        .then(pl.lit("of weight zero"))
    )
    if filters.min_weight is not None:
        light = synthetic & (weight < filters.min_weight)
        reason = reason.when(light).then(pl.lit(f"below weight {filters.min_weight:g}"))
    count = filters.top_k
    if filters.top_fraction is not None:
        # rounded first, so that 0.07 of 100 rows are 7 and not 8
        count = math.ceil(round(filters.top_fraction * learned.height, 9))
    if count is not None:
        beyond = pl.col("traj_id").is_in(learned["traj_id"][count:].to_list())
        reason = reason.when(beyond).then(pl.lit(f"outside the top {count}"))
    return rows.select(reason.otherwise(None).alias("reason")).to_series()

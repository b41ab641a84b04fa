"""Whether two weightings of the same rows agree, and how many rows each of them leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from trajweight.analysis.associations import Coefficient, rank_correlation
from trajweight.analysis.ess import Spread, spread
from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import tasks_of


@dataclass(frozen=True, slots=True)
class Agreement(Facts):
    """How the weights of the rows compare that were weighed in both runs.

    Attributes:
        n: Synthetic training rows of both.
        n_same: Those with the very same weight.
        median_log_change: Median of abs(ln(weight_b / weight_a)); None where half of them went to
            or from zero, or there are none.
        spearman: Rank correlation of the two weights; no value where one side is constant.
    """

    n: int
    n_same: int
    median_log_change: float | None
    spearman: Coefficient


@dataclass(frozen=True, slots=True)
class Size(Facts):
    """How many rows count in one run.

    Attributes:
        training: All training rows, the real ones among them.
        synthetic: Synthetic training rows.
        real_weight: What each real training row weighs; None where there is none.
    """

    training: Spread
    synthetic: Spread
    real_weight: float | None


def is_weighed(side: str = "") -> pl.Expr:
    """Synthetic training rows.

    Args:
        side: What the names of the columns end in.
    """
    return (pl.col(f"split{side}") == "train") & (pl.col(f"origin{side}") == "synthetic")


def agreement(weighed: pl.DataFrame, *, seed: int = 0) -> Agreement:
    """How the weights of the same rows compare.

    Args:
        weighed: A row each, with ``weight_a`` and ``weight_b``, the ``change`` of their logarithm,
            and the task ``task_id_a``.
        seed: Of the bootstrap.
    """
    far = weighed["change"].abs().median()
    a, b = (weighed[f"weight_{side}"].to_numpy() for side in "ab")
    return Agreement(
        n=weighed.height,
        n_same=weighed.filter(pl.col("change") == 0).height,
        median_log_change=far if isinstance(far, float) and math.isfinite(far) else None,
        spearman=rank_correlation(a, b, tasks=tasks_of(weighed, "task_id_a"), seed=seed),
    )


def size_of(table: pl.DataFrame) -> Size:
    """The effective size of one run.

    Args:
        table: With ``origin``, ``split`` and ``weight``.
    """
    training = table.filter(pl.col("split") == "train")
    synthetic = training.filter(is_weighed())
    real = training.filter(pl.col("origin") == "real")["weight"]
    return Size(
        training=spread(training["weight"].to_numpy()),
        synthetic=spread(synthetic["weight"].to_numpy()),
        real_weight=real[0] if len(real) else None,
    )

"""What a run is after: whose loss the weights lower, and what returns make of them beforehand.

Rows of the trajectory table in, plain numbers for the maths out, and facts for whoever reads the
report. Where returns cannot say what was asked of them, the reason comes back as a remark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from trajweight.returns import (
    advantage_weights,
    filter_factors,
    return_factors,
    returns_of,
    standardised,
    successes,
)
from trajweight.reweighting import Prior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.config import ObjectiveName, ReturnsConfig


@dataclass(frozen=True)
class Objective:
    """Whose loss the weights lower.

    Attributes:
        name: The objective that could be had.
        within: By trajectory, how much a held-out real row counts within its task, above zero.
            Rows that take no part are missing.
        n_outer: Validation rows that take part.
        sentence: For the report.
        facts: Rows with a return, for the report; empty where returns were not asked.
        remark: Why it is not the objective that was asked for; empty where it is.
    """

    name: ObjectiveName
    within: dict[str, float]
    n_outer: int
    sentence: str
    facts: dict[str, Any]
    remark: str


@dataclass(frozen=True)
class Beforehand:
    """What returns make of the synthetic training rows.

    Attributes:
        prior: None where all rows count alike.
        facts: Rows with a return, for the report; empty where returns were not asked.
        remark: Why a prior that was asked for changes nothing; empty where it does.
    """

    prior: Prior | None
    facts: dict[str, Any]
    remark: str


def objective_of(table: pl.DataFrame, settings: ReturnsConfig) -> Objective:
    """The objective asked for, or to imitate where returns cannot give another one.

    Args:
        table: The trajectory table with a ``split`` column.
        settings: What is asked for.
    """
    is_held = (pl.col("origin") == "real") & pl.col("split").is_in(["validation", "dev"])
    held = table.filter(is_held)
    names, tasks = held["traj_id"].to_list(), held["task_id"].to_list()
    is_outer = (held["split"] == "validation").to_list()
    imitate = Objective(
        name="imitate",
        within=dict.fromkeys(names, 1.0),
        n_outer=sum(is_outer),
        sentence="imitate the real validation trajectories (mean NLL, tasks alike)",
        facts={},
        remark="",
    )
    if settings.objective == "imitate":
        return imitate
    outcomes = held["success"].to_list()
    known = returns_of(held["reward"].to_list(), outcomes, tasks)
    asked = _by_returns(known, outcomes, tasks, settings)
    has_return = [
        value is not None or outcome is not None
        for value, outcome in zip(known, outcomes, strict=True)
    ]
    n_known = _count(has_return, is_outer)
    facts: dict[str, Any] = {"validation": imitate.n_outer, "validation_with_return": n_known}
    if not _count(asked.says, is_outer):
        remark = (
            f"the objective {settings.objective} cannot be had from the {imitate.n_outer} real "
            f"validation trajectories, since {asked.lacking} ({n_known} have a reward or an "
            "outcome); all of them are imitated instead"
        )
        facts = {"objective": "imitate", **facts, "validation_counted": imitate.n_outer}
        return replace(imitate, facts=facts, remark=remark)
    n_outer = _count([count > 0 for count in asked.counts], is_outer)
    return Objective(
        name=settings.objective,
        within={name: n for name, n in zip(names, asked.counts, strict=True) if n > 0},
        n_outer=n_outer,
        sentence=f"imitate {asked.whose} (mean NLL, tasks alike)",
        facts={"objective": settings.objective, **facts, "validation_counted": n_outer},
        remark="",
    )


@dataclass(frozen=True)
class _Asked:
    """What returns make of held-out rows under an objective.

    Attributes:
        whose: Rows that are imitated, in words.
        counts: How much each row counts within its task.
        says: Of each row, whether its return makes a difference.
        lacking: Why there is no objective where none does.
    """

    whose: str
    counts: list[float]
    says: list[bool]
    lacking: str


def _by_returns(
    known: Sequence[float | None],
    outcomes: Sequence[bool | None],
    tasks: Sequence[str],
    settings: ReturnsConfig,
) -> _Asked:
    if settings.objective == "successful":
        whose = "the successful real validation trajectories"
        did = successes(known, outcomes, tasks, threshold=settings.success_threshold)
        lacking = "none of them is known to have succeeded"
        return _Asked(whose, [float(each) for each in did], did, lacking)
    whose = (
        "the real validation trajectories in proportion to exp(standardised return / "
        f"{settings.beta:g})"
    )
    z = standardised(known, tasks)
    counts = advantage_weights(z, beta=settings.beta, cap=settings.cap)
    lacking = "no task has two of them with different returns"
    return _Asked(whose, counts, [bool(each) for each in z], lacking)


def beforehand(rows: pl.DataFrame, settings: ReturnsConfig, *, floor: float) -> Beforehand:
    """What the rows count before a head says anything.

    Args:
        rows: The synthetic training rows, in the order of their weights.
        settings: What is asked for.
        floor: What the rows that ``filtered`` does not keep count.
    """
    if settings.prior == "none":
        return Beforehand(None, {}, "")
    tasks = rows["task_id"].to_list()
    known = returns_of(rows["reward"].to_list(), rows["success"].to_list(), tasks)
    if settings.prior == "rwr":
        factors = return_factors(standardised(known, tasks), beta=settings.beta)
    else:
        factors = filter_factors(known, tasks, keep=settings.keep_fraction, floor=floor)
    facts: dict[str, Any] = {
        "prior": settings.prior,
        "synthetic": len(tasks),
        "synthetic_with_return": sum(value is not None for value in known),
    }
    if len(set(factors)) < 2:
        remark = (
            f"the prior {settings.prior} changes nothing: {facts['synthetic_with_return']} of the "
            f"{len(tasks)} synthetic trajectories have a return, and in no task does it tell one "
            "from another"
        )
        return Beforehand(None, {**facts, "prior": "none"}, remark)
    prior = Prior(torch.tensor(factors), settings.cap)
    return Beforehand(prior, {**facts, "prior_ess_fraction": prior.ess_fraction}, "")


def _count(is_counted: list[bool], is_outer: list[bool]) -> int:
    """Validation rows, dev rows apart, of which something holds."""
    return sum(one and other for one, other in zip(is_counted, is_outer, strict=True))

"""Returns of offline data: compared inside each task, and turned into shares and factors.

    z_i = (R_i - mean_task) / spread_task          0 where a task cannot compare
    outer loss    share_i ~ exp(z_i / beta)        or 1 for a success and 0 for a failure
    inner weights log w_i = log a_i + z_i / beta   a_i being what the head says

Inside each task, because across tasks a return says how hard the task was. A return that is not
known stays unknown (None) and is never taken for a bad one.

Reference:
    Reward-weighted regression (Peters and Schaal 2007); its advantage-weighted kin caps the factor
    at 20 (AWR, Peng et al. 2019, arXiv 1910.00177).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    Returns = Sequence[float | None]
    Tasks = Sequence[Hashable]

#: A spread below this share of the greatest return is rounding, not a difference.
_ROUNDING = 1e-12
#: Factors stay within exp(-30) and exp(30), beyond which a weight is nothing or everything.
_FARTHEST = 30.0


def returns_of(rewards: Returns, outcomes: Sequence[bool | None], tasks: Tasks) -> Returns:
    """The return of every row: its reward, or 1 and 0 for the outcome in a task without rewards.

    Rewards and outcomes are never mixed inside a task, since their scales differ.
    """
    found: list[float | None] = [None] * len(tasks)
    for places in _by_task(tasks):
        has_rewards = any(rewards[place] is not None for place in places)
        for place in places:
            outcome = outcomes[place]
            plain = None if outcome is None else float(outcome)
            found[place] = rewards[place] if has_rewards else plain
    return found


def standardised(returns: Returns, tasks: Tasks) -> list[float | None]:
    """Returns with mean zero and standard deviation one inside each task: (n,) to (n,).

    A task with a single return, or with no spread, gives zeros; what is unknown stays unknown.

    Example:
        >>> standardised([1.0, 3.0, None, 7.0], ["a", "a", "a", "b"])
        [-1.0, 1.0, None, 0.0]
    """
    found: list[float | None] = [None] * len(tasks)
    for places in _by_task(tasks):
        known = [(place, value) for place in places if (value := returns[place]) is not None]
        _, power = math.frexp(max((abs(value) for _, value in known), default=0.0))
        small = [math.ldexp(value, -power) for _, value in known]  # no square overflows
        mean = math.fsum(small) / max(len(small), 1)
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in small) / max(len(small), 1))
        for (place, _), x in zip(known, small, strict=True):
            found[place] = (x - mean) / spread if spread > _ROUNDING else 0.0
    return found


def successes(
    returns: Returns,
    outcomes: Sequence[bool | None],
    tasks: Tasks,
    *,
    threshold: float | None,
) -> list[bool]:
    """Which rows succeeded, as far as is known: (n,).

    With a threshold, a return of at least that much. Without one, what the row's outcome says;
    else, where all returns are 0 or 1, a return of 1; else the best return of its task, if the
    task has a worse one. A row that none of these decides does not count as a success.
    """
    if threshold is not None:
        return [value is not None and value >= threshold for value in returns]
    are_outcomes = all(value in (0.0, 1.0) for value in returns if value is not None)
    compared = standardised(returns, tasks)
    best = dict.fromkeys(tasks, 0.0)
    for z, task in zip(compared, tasks, strict=True):
        best[task] = max(best[task], z or 0.0)
    found = []
    for value, z, outcome, task in zip(returns, compared, outcomes, tasks, strict=True):
        by_return = value == 1.0 if are_outcomes else z is not None and 0.0 < z == best[task]
        found.append(by_return if outcome is None else outcome)
    return found


def advantage_weights(z: Returns, *, beta: float, cap: float) -> list[float]:
    """exp(z / beta), at most ``cap``; what is unknown counts as the mean of its task: (n,)."""
    most = math.log(cap)
    return [math.exp(min((value or 0.0) / beta, most)) for value in z]


def task_shares(
    within: Sequence[float], tasks: Tasks, times: Sequence[int] | None = None
) -> Tensor:
    """Shares of rows in a loss that counts all tasks alike, summing to one: (m,).

    Args:
        within: How much each row counts within its task, above zero in one row a task.
        tasks: Of each row.
        times: How often each row's task counts, where tasks were drawn with replacement.
    """
    mass = dict.fromkeys(tasks, 0.0)
    for weight, task in zip(within, tasks, strict=True):
        mass[task] += weight
    times = times or [1] * len(tasks)
    share = [
        often * weight / (len(mass) * mass[task])
        for weight, task, often in zip(within, tasks, times, strict=True)
    ]
    return torch.tensor(share)


def return_factors(z: Returns, *, beta: float) -> list[float]:
    """exp(z / beta), the factor of reward-weighted regression; one where unknown: (n,)."""
    log_factors = ((value or 0.0) / beta for value in z)
    return [math.exp(min(max(value, -_FARTHEST), _FARTHEST)) for value in log_factors]


def filter_factors(returns: Returns, tasks: Tasks, *, keep: float, floor: float) -> list[float]:
    """One for the best of each task, ``floor`` for the others; one where unknown: (n,).

    Args:
        returns: Of each row.
        tasks: Of each row.
        keep: Share of a task's rows with a return that is kept, rounded up; ties are kept.
        floor: Factor of the rows that are not kept.
    """
    found = [1.0] * len(tasks)
    for places in _by_task(tasks):
        ranked = sorted((x for place in places if (x := returns[place]) is not None), reverse=True)
        if not ranked:
            continue
        least = ranked[math.ceil(keep * len(ranked) - _ROUNDING) - 1]
        for place in places:
            value = returns[place]
            if value is not None and value < least:
                found[place] = floor
    return found


def _by_task(tasks: Tasks) -> list[list[int]]:
    """The places of each task's rows, tasks in the order they first appear."""
    found: dict[Hashable, list[int]] = {}
    for place, task in enumerate(tasks):
        found.setdefault(task, []).append(place)
    return list(found.values())

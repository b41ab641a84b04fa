"""The inequalities behind the bound: numbers in, numbers out.

Losses are in [0, 1], rows (or tasks, where rows of one task hang together) are independent, and
``delta`` is the chance that the inequality fails. What must hold besides stands with each; whether
it holds is for `bound` to say. Sections and theorems are those of the method report.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Which form of theorem A is used; to be chosen before the losses are seen.
Form = Literal["two-sided", "one-sided"]


def kl_bernoulli(q: float, p: float) -> float:
    """Relative entropy kl(q || p) of two coins, in nats.

    Example:
        >>> round(kl_bernoulli(0.0, 0.5), 4)
        0.6931
    """
    found = 0.0
    for share, against in ((q, p), (1.0 - q, 1.0 - p)):
        if share > 0.0:
            found += share * math.log(share / against) if against > 0.0 else math.inf
    return max(found, 0.0)


def kl_upper(q: float, budget: float) -> float:
    """The largest p with kl(q || p) <= budget, rounded up: a bound from above on a risk.

    Args:
        q: What was observed, 0 to 1.
        budget: In nats, at least 0.

    Example:
        >>> round(kl_upper(0.0, math.log(20) / 200), 4)  # nothing went wrong in 200 tries
        0.0149
    """
    _check_share(q, "observed risk")
    low, high = q, 1.0
    # kl grows from q on; halving ends where no number lies between
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if kl_bernoulli(q, middle) <= budget else (low, middle)
    return high


def kl_lower(q: float, budget: float) -> float:
    """The smallest p with kl(q || p) <= budget, rounded down."""
    return max(0.0, 1.0 - kl_upper(1.0 - q, budget))


def hoeffding_width(n_eff: float, delta: float) -> float:
    """How far a weighted mean may lie below its expectation: sqrt(ln(1 / delta) / (2 n_eff)).

    For one model that was fixed without these losses, and for fixed weights.

    Args:
        n_eff: 1 / sum of squared shares.
        delta: Chance to fail, on this one side.

    Reference:
        Hoeffding, Probability inequalities for sums of bounded random variables, J. Am. Stat.
        Assoc. 58, 1963.

    Example:
        >>> round(hoeffding_width(200, 0.05), 4)
        0.0865
    """
    _check_delta(delta)
    return math.sqrt(math.log(1.0 / delta) / (2.0 * n_eff))


def posterior_width(
    n_eff: float, kl: float, delta: float, *, form: Form = "two-sided", candidates: int = 1
) -> float:
    """How far E_rho R_w may lie above E_rho Rhat_w, for all posteriors rho at once (theorem A).

        two-sided   sqrt((KL + ln(sqrt(n_eff) / delta)) / (2 (n_eff - 1)))
        one-sided   sqrt((KL + ln((1 + 2 n_eff) / delta)) / (2 n_eff))

    For weights that do not look at the losses. The form is chosen before the losses are seen.

    Args:
        n_eff: 1 / sum of squared shares; the two-sided form needs more than one.
        kl: KL(rho || prior) in nats.
        delta: Chance to fail.
        form: The two-sided one bounds the distance either way, and is tighter at small KL.
        candidates: Weight vectors, fixed in advance, among which one was picked by the losses.
    """
    _check_delta(delta)
    cost = kl + math.log(candidates / delta)
    if form == "one-sided":
        return math.sqrt((cost + math.log(1.0 + 2.0 * n_eff)) / (2.0 * n_eff))
    if n_eff <= 1.0:
        return math.inf
    return math.sqrt((cost + 0.5 * math.log(n_eff)) / (2.0 * (n_eff - 1.0)))


def small_risk_upper(
    risk: float, *, n: int, heaviest: float, kl: float | None, delta: float
) -> float:
    """Bound on E_rho R_w that is tight where few things go wrong (section 5.2).

        n kl(Rhat_w / (n w_max) || R_w / (n w_max)) <= KL + ln(2 sqrt(n) / delta)

    It counts by the heaviest share and not by n_eff, for the plain form with n_eff in place of n
    does not hold. For one model fixed in advance ln(1 / delta) is enough (Chernoff's bound).

    Args:
        risk: E_rho Rhat_w.
        n: Rows, or tasks.
        heaviest: The largest share of one.
        kl: KL(rho || prior) in nats; None for one model fixed without these losses.
        delta: Chance to fail.

    Reference:
        Maurer, A note on the PAC Bayesian theorem, arXiv cs/0411099, 2004.
    """
    _check_delta(delta)
    spread = max(n * heaviest, 1.0)
    cost = math.log(1.0 / delta)
    if kl is not None:
        cost += kl + math.log(2.0 * math.sqrt(n))
    return spread * kl_upper(min(risk / spread, 1.0), cost / n)


def looking_width(
    n_units: float, second_moment: float, delta: float, *, kl: float | None = None
) -> float:
    """How far E_rho E[w l] may lie above the mean of w l, for weights that look at the row.

        sqrt(2 E[w^2] (KL + ln((1 + n / 2) / delta)) / n)     theorem B, for all rho at once
        sqrt(2 E[w^2] ln(1 / delta) / n)                      for one model fixed in advance

    For a head that was fitted on other rows. A mean of non-negative numbers has a light tail
    below, whatever their cap, so that nothing but the second moment is asked for.

    Args:
        n_units: Independent rows; with tasks, rows over the rows of the largest task.
        second_moment: E[w^2], or a bound on it from above; not its estimate from these rows.
        delta: Chance to fail.
        kl: KL(rho || prior) in nats; None for one model fixed without these rows.
    """
    _check_delta(delta)
    cost = math.log(1.0 / delta)
    if kl is not None:
        cost += kl + math.log(1.0 + n_units / 2.0)
    return math.sqrt(2.0 * second_moment * cost / n_units)


def second_moment_upper(weights: Floats, cap: float, delta: float) -> float:
    """Bound on E[w^2] from the weights of a fresh batch, by the empirical Bernstein inequality.

    Args:
        weights: What the head gives to rows that taught it nothing and on which nothing else was
            computed, one a task. Two or more. Shape (n,).
        cap: No weight can exceed it.
        delta: Chance to fail.

    Reference:
        Maurer and Pontil, Empirical Bernstein bounds, COLT 2009, theorem 4.
    """
    _check_delta(delta)
    squares, n, cost = weights**2, len(weights), math.log(2.0 / delta)
    width = math.sqrt(2.0 * float(squares.var(ddof=1)) * cost / n)
    return min(float(squares.mean()) + width + 7.0 * cap**2 * cost / (3.0 * (n - 1)), cap**2)


def draws_width(draws: int, delta: float) -> float:
    """How far E_rho Rhat may lie from its mean over models drawn from rho, either way.

    Args:
        draws: Models drawn.
        delta: Chance to fail.

    Example:
        >>> round(draws_width(100, 0.02), 2)
        0.15
    """
    _check_delta(delta)
    return math.sqrt(math.log(2.0 / delta) / (2.0 * draws))


def gaussian_kl(displacement: Floats, scale: float | Floats, prior_scale: float | Floats) -> float:
    """KL of N(theta, s^2) from N(theta_0, s_0^2), both with independent coordinates, in nats.

    Args:
        displacement: theta - theta_0. Shape (d,).
        scale: s, above zero; one number or one a coordinate.
        prior_scale: s_0, fixed before the rows were seen, or picked from a grid at the price of
            `prior_scale_cost`.

    Example:
        >>> round(gaussian_kl(np.array([3.0]), 0.02, 0.02))  # an adapter moved by length 3
        11250
    """
    ratio = np.broadcast_to((np.asarray(scale) / prior_scale) ** 2, displacement.shape)
    moved = (displacement / prior_scale) ** 2
    return 0.5 * float((ratio - 1.0 - np.log(ratio) + moved).sum())


def prior_scale_cost(place: int) -> float:
    """Nats to add to KL for having picked the prior's scale from a list without end.

    The scale at place j takes 6 / (pi^2 (j + 1)^2) of delta; the parts sum to one.

    Args:
        place: Of the scale picked, from 0 on.
    """
    return 2.0 * math.log(place + 1) + math.log(math.pi**2 / 6.0)


def _check_delta(delta: float) -> None:
    """A chance to fail."""
    if not 0.0 < delta < 1.0:
        message = f"delta is {delta}; it must lie between 0 and 1."
        raise ConfigError(message, hint="It is the chance that the bound fails, such as 0.05.")


def _check_share(value: float, name: str) -> None:
    """A share of one."""
    if not 0.0 <= value <= 1.0:
        message = f"the {name} is {value}; it must lie from 0 to 1."
        raise ConfigError(message)

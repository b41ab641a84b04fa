"""What can be promised about the risk on real data, term by term: a certificate or an estimate.

    risk on real data <= weighted empirical risk + complexity + (1 - alpha) shift

A term is a certificate where a theorem covers how the weights came about (see `weighing`), and an
estimate elsewhere. First of all stands the bound from untouched real rows, which needs none of
this.

The calculator takes the word of whoever calls it for what it cannot see, such as that rows are
untouched; every certificate lists what it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.inequalities import hoeffding_width, small_risk_upper
from trajweight.analysis.promises import Bound, Status, Term
from trajweight.analysis.weighing import Sample, Weighing, unit_shares, width_with_draws
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Chance that a bound fails, where none is given.
DELTA: Final = 0.05
_INDEPENDENT: Final = "rows are independent, or tasks are where tasks are given"


@dataclass(frozen=True, slots=True)
class Reckoning(Facts):
    """All that can be said about the risk, what is surest first.

    Attributes:
        test_set: From untouched real rows.
        weighted: From the weighted training rows; None where their losses are not known.
        hints: Numbers that bound nothing from above.
    """

    test_set: tuple[Bound, ...]
    weighted: Bound | None
    hints: tuple[Term, ...]


def bounds_from_real_rows(
    losses: Floats,
    *,
    tasks: Ints | None = None,
    is_untouched: bool,
    delta: float = DELTA,
    loss_range: float = 1.0,
) -> tuple[Bound, ...]:
    """Bounds on the risk of one model from real rows that had no part in making it.

    Each of them holds with chance 1 - delta; to take the smaller of both after seeing them costs
    a delta each. The first one is the better one where rows are of one task each.

    Args:
        losses: Of the rows, from 0 to ``loss_range``. Shape (n,).
        tasks: The task of each row; every row its own when not given. Shape (n,).
        is_untouched: Whether nothing, neither weights nor steps nor a choice between models, was
            decided by looking at these rows or at rows of their tasks.
        delta: Chance to fail.
        loss_range: The largest loss there can be.

    Returns:
        By inversion of kl, and by Hoeffding's inequality.
    """
    sample = Sample.of(losses, np.ones(len(losses)), tasks, loss_range=loss_range)
    shares, n_eff = unit_shares(sample)
    risk, heaviest = sample.risk, float(shares.max())
    upper = small_risk_upper(risk, n=len(shares), heaviest=heaviest, kl=None, delta=delta)
    widths = (("kl", upper - risk), ("Hoeffding", hoeffding_width(n_eff, delta)))
    status: Status = "certificate"
    rows, why = "untouched rows", "{} holds for one model and fresh rows"
    if not is_untouched:
        status = "estimate"
        rows, why = "rows that were looked at", "{} does not hold for a model that these rows made"
    needs = (_INDEPENDENT, "real rows are drawn as future ones will be", "nothing looked at them")
    seen = _observed("mean loss of the real rows", risk * loss_range, loss_range)
    return tuple(
        Bound(
            f"risk on real data, from {rows} ({name})",
            (
                seen,
                Term(
                    "sampling error of the real rows",
                    width * loss_range,
                    status,
                    why.format(f"the inequality of {name}"),
                    needs,
                    delta if is_untouched else None,
                    n_eff,
                    loss_range,
                ),
            ),
        )
        for name, width in widths
    )


def weighted_terms(
    losses: Floats,
    weights: Floats,
    weighing: Weighing,
    *,
    tasks: Ints | None = None,
    kl: float | None,
    draws: int | None = None,
    delta: float = DELTA,
    loss_range: float = 1.0,
) -> tuple[Term, ...]:
    """Weighted empirical risk and complexity: together they bound the risk under the weighted law.

    Args:
        losses: Of the training rows, from 0 to ``loss_range``, each the mean over the posterior.
            Shape (n,).
        weights: Of the rows, as the head gives them, before they are brought to mean one. Shape
            (n,).
        weighing: How the weights came about.
        tasks: The task of each row; every row its own when not given. Shape (n,).
        kl: KL(posterior || prior) of the model in nats; None for one model that was fixed without
            these rows.
        draws: Models drawn for the mean losses; None where the means are exact. Half of delta
            goes to them.
        delta: Chance that the sum fails.
        loss_range: The largest loss there can be.
    """
    sample = Sample.of(losses, weights, tasks, loss_range=loss_range)
    rest = delta if draws is None else delta / 2.0
    width = weighing.width(sample, kl=kl, delta=rest)
    terms = [
        _observed("weighted empirical risk", sample.risk * loss_range, loss_range),
        Term(
            "complexity",
            width * loss_range,
            weighing.status,
            weighing.because,
            (_INDEPENDENT, *weighing.needs, *_kl_needs(kl)),
            rest if weighing.status == "certificate" else None,
            weighing.n_eff(sample),
            loss_range,
        ),
    ]
    if draws is not None:
        extra = width_with_draws(weighing, sample, draws, kl=kl, delta=rest) - width
        terms.append(
            Term(
                "models drawn",
                extra * loss_range,
                weighing.status,
                "Hoeffding's inequality over the models drawn"
                if weighing.status == "certificate"
                else weighing.because,
                ("models are drawn from the posterior independently of each other",),
                rest if weighing.status == "certificate" else None,
                float(draws),
                loss_range,
            )
        )
    return tuple(terms)


def shift_over_adapters(
    real: Floats,
    synthetic: Floats,
    weights: Floats,
    weighing: Weighing,
    *,
    real_tasks: Ints | None = None,
    tasks: Ints | None = None,
    is_chosen_apart: bool,
    delta: float = DELTA,
    loss_range: float = 1.0,
) -> Term:
    """The largest difference of real and weighted synthetic risk over K adapters.

    max_k |Rhat_real(h_k) - Rhat_w(h_k)| plus the errors of both, for all K at once.

    Args:
        real: Losses of the adapters on real rows, from 0 to ``loss_range``. Shape (K, m).
        synthetic: Losses on synthetic rows. Shape (K, n).
        weights: Of the synthetic rows, as the head gives them. Shape (n,).
        weighing: How the weights came about.
        real_tasks: The task of each real row. Shape (m,).
        tasks: The task of each synthetic row. Shape (n,).
        is_chosen_apart: Whether the adapters were fixed without a look at either rows.
        delta: Chance to fail.
        loss_range: The largest loss there can be.
    """
    count = len(real)
    each = delta / (4.0 * count)  # two sides of two errors, for every adapter
    largest, n_eff = 0.0, math.inf
    for on_real, on_synthetic in zip(real, synthetic, strict=True):
        here = Sample.of(on_real, np.ones(len(on_real)), real_tasks, loss_range=loss_range)
        there = Sample.of(on_synthetic, weights, tasks, loss_range=loss_range)
        error = hoeffding_width(unit_shares(here)[1], each)
        above = weighing.width(there, kl=None, delta=each)
        below = weighing.width(there.turned(), kl=None, delta=each)
        gap = here.risk - there.risk
        largest = max(largest, gap + error + below, -gap + error + above)
        n_eff = min(n_eff, weighing.n_eff(there))
    is_proved = is_chosen_apart and weighing.status == "certificate"
    because = f"the inequality holds for {count} adapters at once"
    if not is_proved:
        because = (
            weighing.because
            if is_chosen_apart
            else "the adapters were trained or chosen with a look at these rows"
        )
    return Term(
        f"shift over {count} fixed adapters",
        largest * loss_range,
        "certificate" if is_proved else "estimate",
        because,
        (_INDEPENDENT, *weighing.needs, "the adapters were fixed without these rows"),
        delta if is_proved else None,
        n_eff,
        loss_range,
    )


def real_risk_bound(
    weighted: Sequence[Term],
    shift: Term,
    *,
    synthetic_share: float = 1.0,
    is_one_of_them: bool,
) -> Bound:
    """The bound on the risk on real data: empirical risk, complexity and shift.

    Args:
        weighted: From `weighted_terms`, over synthetic and real training rows together.
        shift: How far the synthetic part lies from the real one.
        synthetic_share: The synthetic rows' part of the mass, 1 - alpha.
        is_one_of_them: Whether the model is one of the adapters that the shift was taken over; of
            others it proves nothing.

    Raises:
        ConfigError: If the share is not one, or a term's numbers are of another loss.
    """
    if not 0.0 <= synthetic_share <= 1.0:
        message = f"the synthetic share of the mass is {synthetic_share}; it must be from 0 to 1."
        raise ConfigError(message)
    name = f"{synthetic_share:.3g} times the {shift.name}" if synthetic_share < 1 else shift.name
    scaled = replace(shift, name=name, value=synthetic_share * shift.value)
    if synthetic_share > 0.0 and shift.status == "certificate" and not is_one_of_them:
        scaled = replace(
            scaled,
            status="estimate",
            because="the shift is proved for other adapters than this model",
            delta=None,
        )
    return Bound("risk on real data, from weighted rows", (*weighted, scaled))


def classifier_hint(proxy_distance: float, *, loss_range: float = 1.0) -> Term:
    """Half of the proxy distance: an estimated lower bound of the total variation.

    Args:
        proxy_distance: From `two_sample.TwoSample`, 2 (1 - 2 error).
        loss_range: The largest loss there can be.
    """
    return Term(
        "shift that a classifier sees",
        max(0.0, proxy_distance / 2.0) * loss_range,
        "estimate",
        "a classifier bounds the shift from below only; what it misses may be as large as can be",
        delta=None,
        loss_range=loss_range,
    )


def mmd_hint(mmd_squared: float, *, loss_range: float = 1.0) -> Term:
    """Root of the squared maximum mean discrepancy, times the range of the loss.

    Args:
        mmd_squared: From `alignment.EmbeddingDistances`.
        loss_range: The largest loss there can be.
    """
    return Term(
        "maximum mean discrepancy",
        math.sqrt(max(0.0, mmd_squared)) * loss_range,
        "estimate",
        "it bounds the shift only for losses in a ball of the kernel's space, which nobody can "
        "check for a language model",
        delta=None,
        loss_range=loss_range,
    )


def clipped(losses: Floats, ceiling: float) -> Floats:
    """Negative log-likelihoods cut at ``ceiling`` nats and divided by it: a loss in [0, 1].

    A bound on it says nothing of the part above the ceiling.
    """
    if ceiling <= 0:
        message = f"losses cannot be cut at {ceiling}; it takes a number above 0."
        raise ConfigError(message)
    return np.minimum(losses, ceiling) / ceiling


def _observed(name: str, value: float, loss_range: float) -> Term:
    """What was seen on rows that are at hand, and is no statement about others."""
    return Term(name, value, "certificate", "it was observed", loss_range=loss_range)


def _kl_needs(kl: float | None) -> tuple[str, ...]:
    """What the KL of a posterior needs."""
    if kl is None:
        return ("the model was fixed without these rows",)
    return ("the prior was fixed without these rows", "losses are means over the posterior")

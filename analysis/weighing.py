"""How weights came about, and how far that lets a weighted risk be trusted.

Each class is one answer, with the theorem that covers it; `PluggedIn` is for weights that none
covers. All of them tell how far the risk under the weighted law may lie above the weighted
empirical one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from trajweight.analysis.inequalities import (
    Form,
    draws_width,
    hoeffding_width,
    looking_width,
    posterior_width,
    second_moment_upper,
    small_risk_upper,
)
from trajweight.errors import ConfigError, DataError
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_BOUNDED: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """Weighted rows with their losses.

    Attributes:
        losses: In [0, 1]. Shape (n,).
        weights: At least zero, not all zero. Shape (n,).
        tasks: From 0 on without a gap. Shape (n,).
    """

    losses: Floats
    weights: Floats
    tasks: Ints

    @classmethod
    def of(
        cls, losses: Floats, weights: Floats, tasks: Ints | None, *, loss_range: float
    ) -> Sample:
        """Check rows and bring their losses to [0, 1].

        Raises:
            DataError: If losses leave their range, weights cannot be used, or lengths differ.
        """
        if not len(losses) or len(losses) != len(weights):
            message = f"there are {len(losses)} losses and {len(weights)} weights."
            raise DataError(message, hint="Give one of both a row, and at least one row.")
        low, high = float(losses.min()), float(losses.max())
        if not (low >= 0.0 and high <= loss_range * (1.0 + _BOUNDED)):
            message = f"losses run from {low:.6g} to {high:.6g}; they must be in 0 to {loss_range}."
            raise DataError(message, hint="Use errors, or losses that are cut: bound.clipped.")
        if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
            message = f"weights run from {weights.min()} to {weights.max()}."
            raise DataError(message, hint="Weights must be finite, at least 0, and not all 0.")
        codes = (
            np.arange(len(losses)) if tasks is None else np.unique(tasks, return_inverse=True)[1]
        )
        return cls(np.minimum(losses / loss_range, 1.0), weights, codes)

    @property
    def risk(self) -> float:
        """The weighted mean loss."""
        return float(self.weights @ self.losses / self.weights.sum())

    @property
    def n_units(self) -> float:
        """Rows over the rows of the largest task; the tasks, where all are of one size."""
        return len(self.losses) / float(np.bincount(self.tasks).max())

    def turned(self) -> Sample:
        """The same rows with one minus their losses: what bounds a risk from the other side."""
        return replace(self, losses=1.0 - self.losses)


class Weighing(Protocol):
    """A way in which weights came about."""

    @property
    def status(self) -> Literal["certificate", "estimate"]:
        """Whether a theorem covers it."""
        ...

    @property
    def because(self) -> str:
        """The theorem, or why there is none."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to hold for the theorem."""
        ...

    def n_eff(self, sample: Sample) -> float:
        """The independent rows it counts on."""
        ...

    def width(self, sample: Sample, *, kl: float | None, delta: float) -> float:
        """How far the risk under the weighted law may lie above the weighted empirical risk.

        Args:
            sample: The rows.
            kl: Of the posterior in nats; None for one model fixed in advance.
            delta: Chance to fail.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedWeights:
    """Weights that depend on nothing but the source, and were fixed on other rows (theorem A).

    Attributes:
        candidates: Weight vectors fixed in advance, one of which was picked on these rows.
        form: Of theorem A, or the small-risk form, which is tighter where the risk is near zero
            and the weights are nearly even; to be chosen before the losses are seen.
    """

    candidates: int = 1
    form: Form | Literal["small-risk"] = "two-sided"
    status: Literal["certificate"] = field(default="certificate", init=False)

    @property
    def because(self) -> str:
        """The theorem."""
        if self.form == "small-risk":
            return "Maurer's theorem by the heaviest share: fixed weights"
        return "theorem A: fixed weights"

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to hold for the theorem."""
        return (
            "weights depend on the source alone and were fixed on other rows",
            *((f"they are one of {self.candidates} fixed before",) if self.candidates > 1 else ()),
        )

    def n_eff(self, sample: Sample) -> float:
        """1 / sum of squared shares of the tasks."""
        return unit_shares(sample)[1]

    def width(self, sample: Sample, *, kl: float | None, delta: float) -> float:
        """By theorem A or the small-risk form; by Hoeffding's or Chernoff's for one model."""
        shares, n_eff = unit_shares(sample)
        if self.form == "small-risk":
            each = delta / self.candidates
            heaviest, n = float(shares.max()), int(np.count_nonzero(shares))
            upper = small_risk_upper(sample.risk, n=n, heaviest=heaviest, kl=kl, delta=each)
            return upper - sample.risk
        if kl is None:
            return hoeffding_width(n_eff, delta / self.candidates)
        return posterior_width(n_eff, kl, delta, form=self.form, candidates=self.candidates)


@dataclass(frozen=True, slots=True)
class HeadFromOtherRows:
    """Weights of a head that was fitted on other tasks, and looks at the rows (theorem B).

    The weights are those that the head gives by itself. Dividing them by their mean is covered:
    that mean is bounded from below, at half of delta (a third, with a fresh batch).

    Attributes:
        cap: No weight of the head can exceed it, such as its ``w_max``.
        floor: No weight can be below it, such as its ``w_min``.
        fresh: Weights that the head gives to a batch of fresh rows, one a task: they bound E[w^2]
            where the cap does so badly. Shape (b,).
    """

    cap: float
    floor: float = 0.0
    fresh: Floats | None = None
    status: Literal["certificate"] = field(default="certificate", init=False)
    because: str = field(default="theorem B: a head from other rows", init=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to hold for the theorem."""
        known = (
            "the head was fitted on rows of other tasks",
            f"its weights lie from {self.floor:g} to {self.cap:g} for whatever row",
        )
        return known if self.fresh is None else (*known, "the fresh batch served nothing else")

    def n_eff(self, sample: Sample) -> float:
        """Tasks over the largest second moment there can be, at the mean seen: n m^2 / E[w^2]."""
        mean = float(sample.weights.mean())
        second = self.cap * mean
        if self.fresh is not None:
            second = min(second, float((self.fresh**2).mean()))
        return sample.n_units * mean**2 / second

    def width(self, sample: Sample, *, kl: float | None, delta: float) -> float:
        """By theorem B, the mean weight bounded from below."""
        _check_cap(sample.weights, self.floor, self.cap)
        parts = 2.0 if self.fresh is None else 3.0
        lost = (self.cap - self.floor) * hoeffding_width(sample.n_units, delta / parts)
        mean = max(float(sample.weights.mean()) - lost, self.floor)
        if mean <= 0.0:
            return math.inf
        # E[w^2] <= cap E[w]; divided by E[w]^2 it falls with the mean, which is bounded below
        second = self.cap / mean
        if self.fresh is not None:
            second = min(second, second_moment_upper(self.fresh, self.cap, delta / parts) / mean**2)
        weighted = float(sample.weights @ sample.losses) / len(sample.weights)
        return (
            weighted / mean
            - sample.risk
            + looking_width(sample.n_units, second, delta / parts, kl=kl)
        )


@dataclass(frozen=True, slots=True)
class HeadFromSameRows:
    """Weights of a head that learned from these very rows, as a posterior (theorem C).

    Attributes:
        cap: No weight of any head can exceed it.
        kl_head: KL of the head's posterior from its prior, in nats; the weights are means over
            that posterior.
        floor: No weight can be below it.
    """

    cap: float
    kl_head: float
    floor: float = 0.0
    status: Literal["certificate"] = field(default="certificate", init=False)
    because: str = field(
        default="theorem C: head and model are one hypothesis, both pay KL", init=False
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to hold for the theorem."""
        return (
            "the priors of head and model were fixed without these rows",
            "head and model are drawn independently; weighted losses are means over both",
            f"weights lie from {self.floor:g} to {self.cap:g} for whatever row and head",
        )

    def n_eff(self, sample: Sample) -> float:
        """Tasks over cap / mean weight."""
        return sample.n_units * float(sample.weights.mean()) / self.cap

    def width(self, sample: Sample, *, kl: float | None, delta: float) -> float:
        """By theorem C, at half of delta for each of numerator and denominator."""
        _check_cap(sample.weights, self.floor, self.cap)
        lost = (self.cap - self.floor) * posterior_width(
            sample.n_units, self.kl_head, delta / 2.0, form="one-sided"
        )
        mean = max(float(sample.weights.mean()) - lost, self.floor)
        if mean <= 0.0:
            return math.inf
        weighted = float(sample.weights @ sample.losses) / len(sample.weights)
        both = self.kl_head + (kl or 0.0)
        numerator = looking_width(sample.n_units, self.cap / mean, delta / 2.0, kl=both)
        return weighted / mean - sample.risk + numerator


@dataclass(frozen=True, slots=True)
class PluggedIn:
    """Weights that no theorem covers, put into theorem A as if one did.

    Weights fitted to the same losses break it nearly always, and a head from other rows breaks it
    where a heavy row is rare.
    """

    status: Literal["estimate"] = field(default="estimate", init=False)
    because: str = field(
        default="no theorem covers these weights: theorem A is for such as do not look at the rows",
        init=False,
    )
    needs: tuple[str, ...] = field(default=(), init=False)

    def n_eff(self, sample: Sample) -> float:
        """1 / sum of squared shares of the tasks."""
        return unit_shares(sample)[1]

    def width(self, sample: Sample, *, kl: float | None, delta: float) -> float:
        """What theorem A would say."""
        return FixedWeights().width(sample, kl=kl, delta=delta)


def width_with_draws(
    weighing: Weighing, sample: Sample, draws: int, *, kl: float | None, delta: float
) -> float:
    """The width where losses are means over models drawn from the posterior.

    Every loss may be larger by the error of the draws, which then passes through the bound: it may
    multiply it.

    Args:
        weighing: How the weights came about.
        sample: The rows, with mean losses.
        draws: Models drawn.
        kl: Of the posterior in nats.
        delta: Chance that the draws mislead, and again that the width fails.
    """
    error = draws_width(draws, delta)
    higher = replace(sample, losses=sample.losses + error)
    return weighing.width(higher, kl=kl, delta=delta) + error


def unit_shares(sample: Sample) -> tuple[Floats, float]:
    """Shares of the tasks, and how many equal tasks they are worth: 1 / sum of their squares."""
    shares = np.bincount(sample.tasks, weights=sample.weights) / sample.weights.sum()
    return shares, float(effective_sample_size(shares))


def _check_cap(weights: Floats, floor: float, cap: float) -> None:
    """Refuse a cap that does not hold on the rows at hand."""
    low, high = float(weights.min()), float(weights.max())
    if not (cap > 0 and low >= floor * (1.0 - _BOUNDED) and high <= cap * (1.0 + _BOUNDED)):
        message = f"weights run from {low:.6g} to {high:.6g}, outside of {floor:g} to {cap:g}."
        raise ConfigError(
            message, hint="Give the weights as the head gives them, before they are normalised."
        )

"""The dial of the effective sample size: weights made flatter, by no more than is asked for.

    temper   w^a                    a from 1 (as learned) down to 0 (all equal)
    clip     min(w, c)              c from the greatest weight down to the least above zero
    mix      (1 - s) w + s          s from 0 up to 1

each scaled to mean one. Along each way ESS/n never falls, so the mildest turn that meets a target
is found by bisection. With p_i ~ w_i^a one has d log ESS / da = 2 (E_a log w - E_2a log w), which
is never above zero; with Q = sum min(w, c)^2 and S = sum min(w, c) it is Q <= c S that makes ESS
fall in c; and mixing multiplies the squared coefficient of variation by (1 - s)^2.

A weight of zero says "train nothing of this row". Tempering and clipping keep it, so with zeros
they reach no more than the share of rows above zero. Mixing lifts it to s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.errors import ConfigError
from trajweight.weights import effective_share, mean_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

How = Literal["temper", "clip", "mix"]

#: What sums of many weights may be off by; a target so near to what is there counts as met.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Dialled:
    """Weights after a turn of the dial.

    Attributes:
        weights: Mean one. Shape (n,).
        how: The way that was asked for.
        strength: The exponent (temper), the cap (clip) or the share of uniform weight (mix); None
            where nothing had to be done.
        target: ESS/n asked for.
        ess_before: ESS/n of the weights as they came, above 0 and at most 1.
        ess_after: ESS/n of ``weights``.
        is_met: Whether ``ess_after`` reaches the target, to within rounding.
        said: What was done, as a sentence or two.
    """

    weights: Floats
    how: How
    strength: float | None
    target: float
    ess_before: float
    ess_after: float
    is_met: bool
    said: str


def turn_dial(weights: Floats, target_ess: float, how: How = "temper") -> Dialled:
    """Flatten weights just so far that ESS/n meets a target, and not at all if it does already.

    A target out of reach (see the module) is met as nearly as can be: the weights above zero
    become equal, and the words say why it is not more.

    Args:
        weights: Non-negative weights, not all zero. Shape (n,).
        target_ess: ESS/n to reach, above 0 and at most 1.
        how: The way to flatten.

    Raises:
        ConfigError: If the target or the way cannot be used.
        DataError: If these are no weights.

    Example:
        >>> done = turn_dial(np.array([4.0, 1.0, 1.0, 2.0]), 0.9, how="mix")
        >>> round(done.ess_before, 3), round(done.ess_after, 3), round(done.strength, 3)
        (0.727, 0.9, 0.456)
    """
    if not 0 < target_ess <= 1:
        message = f"--target-ess is {target_ess}; it must be above 0 and at most 1."
        raise ConfigError(message, hint="It is a share of the rows: 0.5 is half as many as go out.")
    if how not in _WAYS:
        message = f"the way to meet --target-ess is {how!r}; it must be among {', '.join(_WAYS)}."
        raise ConfigError(message)
    learned = mean_one(weights)
    before = effective_share(learned)
    if before >= target_ess - _ROUNDING:
        said = f"ESS/n is {before:.4g}, at least the {target_ess:g} asked for; nothing was changed."
        return Dialled(learned, how, None, target_ess, before, before, is_met=True, said=said)
    strength = _mildest(learned, target_ess, how)
    flatter = _WAYS[how](learned, strength)
    after = effective_share(flatter)
    is_met = after >= target_ess - _ROUNDING
    said = f"{_told(learned, strength, how)} ESS/n went from {before:.4g} to {after:.4g}."
    if not is_met:
        said += f" {_limit(learned, target_ess)}"
    return Dialled(flatter, how, strength, target_ess, before, after, is_met, said)


def tempered(weights: Floats, exponent: float) -> Floats:
    """Weights to a power from 0 to 1, mean one; zeros stay zero even at power 0.

    Example:
        >>> tempered(np.array([9.0, 1.0, 0.0]), 0.5)
        array([2.25, 0.75, 0.  ])
    """
    learned = mean_one(weights)
    return mean_one(np.where(learned > 0, learned**exponent, 0.0))


def clipped(weights: Floats, cap: float) -> Floats:
    """Weights, of mean one, cut at a cap above zero, then scaled back to mean one.

    After scaling the greatest weight may lie above the cap. Zeros stay zero.

    Example:
        >>> clipped(np.array([5.0, 0.5, 0.5, 2.0]), 1.0)  # 2.5, 0.25, 0.25, 1 before the cut
        array([1.6, 0.4, 0.4, 1.6])
    """
    return mean_one(np.minimum(mean_one(weights), cap))


def mixed(weights: Floats, share: float) -> Floats:
    """Weights, of mean one, mixed with the uniform weight one, which counts by a share of 0 to 1.

    Example:
        >>> mixed(np.array([2.0, 0.0]), 0.5)
        array([1.5, 0.5])
    """
    return (1.0 - share) * mean_one(weights) + share


_WAYS: Final[dict[str, Callable[[Floats, float], Floats]]] = {
    "temper": tempered,
    "clip": clipped,
    "mix": mixed,
}


def _mildest(learned: Floats, target: float, how: How) -> float:
    """The strength nearest to "nothing" whose weights meet the target; the flattest if none does.

    Bisection until no number lies between the last that meets it and the last that does not.
    """
    above = learned[learned > 0]
    ends = {"temper": (1.0, 0.0), "clip": (above.max(), above.min()), "mix": (0.0, 1.0)}
    too_mild, enough = (float(end) for end in ends[how])
    reach = 1.0 if how == "mix" else len(above) / len(learned)
    if target >= reach - _ROUNDING:
        return enough
    while True:
        middle = too_mild + (enough - too_mild) / 2
        if middle in (too_mild, enough):
            return enough
        if effective_share(_WAYS[how](learned, middle)) >= target:
            enough = middle
        else:
            too_mild = middle


def _told(learned: Floats, strength: float, how: How) -> str:
    """What a strength does, in words."""
    zeros = int(np.count_nonzero(learned == 0))
    if how == "mix":
        lifted = f"; {_rows(zeros)} of weight zero got that much" if zeros else ""
        return f"Weights were mixed with uniform ones, which count {strength:.4g} of one{lifted}."
    kept = f" Weight zero stays zero ({_rows(zeros)})." if zeros else ""
    if how == "temper":
        return f"Weights were raised to the power {strength:.4g} and scaled to mean one.{kept}"
    cut = _rows(int(np.count_nonzero(learned > strength)))
    return f"Weights above {strength:.4g} ({cut}) were cut to it, all scaled to mean one.{kept}"


def _limit(learned: Floats, target: float) -> str:
    """Why a target was not met."""
    n, above = len(learned), int(np.count_nonzero(learned))
    return (
        f"{target:g} is out of reach: only {above} of {n} rows weigh more than zero, and these are "
        f"now equal, so {above / n:.4g} is the most. Leave rows of weight zero out, or mix."
    )


def _rows(count: int) -> str:
    """A number of rows, in words."""
    return "1 row" if count == 1 else f"{count} rows"

"""What a gradient says of the weights: how much each row really counted, against what it should.

The gradient of one optimiser step over several rows is G = sum_i a_i g_i, with g_i the gradient of
a step over row i alone. The effective weights a_i follow by least squares; only their ratios act,
since optimisers that divide by the gradient's own size hardly see a common factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Word = Literal["PASS", "IGNORED", "CANCELLED", "BIASED", "SKIPPED"]

#: How far an effective weight may be off; gradients in fp32 agree to 1e-4 or better.
TOLERANCE: Final = 0.02
#: The same for a row of another length, where trainers count a token more or less than we do.
LENGTH_TOLERANCE: Final = 0.06
#: Part of a gradient that no mixture of the rows' own gradients may leave unexplained.
RESIDUAL: Final = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """One step over all rows.

    Attributes:
        micro_batch: Rows of a micro-batch.
        effective: What each row counted, scaled to the sum of what it should count.
        residual: Part of the gradient that no weights explain, 0 to 1.
    """

    micro_batch: int
    effective: tuple[float, ...]
    residual: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether weights take effect.

    Attributes:
        word: PASS: as they should. IGNORED: rows alike but for their weight count alike.
            CANCELLED: they act among the rows of a micro-batch, and not with one row in each.
            BIASED: they act, but not as they should. SKIPPED: nothing was measured.
        said: The same as a sentence.
        wanted: What each row should count, mean one; empty where nothing was measured.
        n_alike: So many of the first rows are alike but for their weight.
        measured: By number of rows in a micro-batch.
        versions: Of the packages that were asked.
    """

    word: Word
    said: str
    wanted: tuple[float, ...] = ()
    n_alike: int = 0
    measured: tuple[Measured, ...] = ()
    versions: tuple[str, ...] = ()


def effective_weights(whole: Floats, single: Floats) -> tuple[Floats, float]:
    """How much each row counts in a gradient, and the part of it that is left.

    Args:
        whole: Gradient of a step over all rows. Shape (p,).
        single: Gradients of steps over single rows. Shape (n, p).

    Example:
        >>> effective_weights(np.array([2.0, 6.0]), np.eye(2))[0]
        array([2., 6.])
    """
    found: Floats = np.linalg.lstsq(single.T, whole, rcond=None)[0].astype(np.float64)
    size = float(np.linalg.norm(whole))
    left = float(np.linalg.norm(whole - found @ single))
    return found, left / size if size else 1.0


def judged(
    wanted: Floats, wholes: Mapping[int, Floats], single: Floats, n_alike: int
) -> tuple[Word, str, tuple[Measured, ...]]:
    """The verdict on some steps.

    Args:
        wanted: What rows should count. Shape (n,).
        wholes: By number of rows in a micro-batch, the gradient of a step over all rows.
        single: See `effective_weights`.
        n_alike: So many of the first rows are alike but for their weight.
    """
    measured = tuple(
        _measured(size, whole, single, wanted) for size, whole in sorted(wholes.items())
    )
    torn = [each for each in measured if each.residual > RESIDUAL]
    if torn:
        said = (
            f"{torn[0].residual:.0%} of the gradient comes from none of the rows: what the trainer "
            "learns from is not what was exported."
        )
        return "BIASED", said, measured
    flat = [each.micro_batch for each in measured if _are_equal(each.effective[:n_alike])]
    if flat and not _are_equal(wanted[:n_alike]):
        if len(flat) == len(measured):
            said = "rows that are alike but for their weight count alike: weights do nothing."
            return "IGNORED", said, measured
        sizes = " or ".join(map(str, flat))
        said = f"with micro-batches of {sizes} the weights vanish in the divisor of the loss."
        return "CANCELLED", said, measured
    limits = np.where(np.arange(len(wanted)) < n_alike, TOLERANCE, LENGTH_TOLERANCE)
    ratios = {each.micro_batch: _ratios(each, wanted, n_alike) for each in measured}
    off = {size: ratio[np.abs(ratio - 1) > limits] for size, ratio in ratios.items()}
    told = [
        f"{_furthest(ratio):.3f} times (micro-batch {size})"
        for size, ratio in off.items()
        if ratio.size
    ]
    if told:
        return "BIASED", f"a row counts {', '.join(told)} what it should.", measured
    worst = _furthest(np.concatenate(list(ratios.values())))
    said = f"each row counts what it should, to {abs(worst - 1):.1%}."
    if _are_equal(wanted[:n_alike]):
        said = f"rows that are alike count alike, to {abs(worst - 1):.1%}; none carries a weight."
    return "PASS", said, measured


def _measured(size: int, whole: Floats, single: Floats, wanted: Floats) -> Measured:
    found, residual = effective_weights(whole, single)
    total = float(found.sum())
    scaled = found * (float(wanted.sum()) / total) if total else found
    return Measured(size, tuple(scaled.tolist()), residual)


def _are_equal(values: Sequence[float] | Floats) -> bool:
    found = np.asarray(values)
    return bool(np.ptp(found) <= TOLERANCE * abs(found.mean()))


def _ratios(measured: Measured, wanted: Floats, n_alike: int) -> Floats:
    """Effective to wanted weights, on the scale of the rows that are alike. Shape (n,)."""
    effective = np.array(measured.effective)
    scale = effective[:n_alike].sum() / wanted[:n_alike].sum()
    ratios: Floats = effective / (wanted * scale)
    return ratios


def _furthest(ratios: Floats) -> float:
    """The ratio that is furthest from one."""
    return float(ratios[np.abs(ratios - 1).argmax()])

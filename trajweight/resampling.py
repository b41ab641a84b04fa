"""Systematic resampling: weights turned into whole numbers of copies, and an order for the copies.

A comb with ``size`` teeth at equal distances is laid over the rows, each row as long as its
weight; the teeth in a row are its copies. One random shift of the comb decides all, so

    E[n_i] = e_i = w_i size / sum w        exactly, whatever the order of the rows
    n_i is floor(e_i) or ceil(e_i)         Var n_i = f (1 - f), f the fraction of e_i
    sum n_i = size

where drawing with replacement has Var n_i = e_i (1 - w_i / sum w), for most rows far more. Rows
are shuffled before the comb, since otherwise two neighbours with e = 1/2 would never both be in.

Reference:
    Madow, On the theory of systematic sampling II, Annals of Mathematical Statistics 20, 1949;
    Kitagawa, Monte Carlo filter and smoother, Journal of Computational and Graphical Statistics
    5, 1996.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.errors import ConfigError
from trajweight.weights import mean_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Copies of one row in one file from which on it is rather learned by heart than learned from.
MANY_COPIES: Final = 10
#: Part of a file from which on one row takes it over, given that it is there three times or more.
LARGE_SHARE: Final = 0.1
#: More lines than any file has, and few enough that a number of copies keeps its fraction.
MOST_LINES: Final = 2**40

# streams of one seed, so that the comb, the order and the epochs do not depend on each other
_COMB, _ORDER, _EPOCH = range(3)
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Takeover:
    """How much of a file the row with the most copies takes.

    Attributes:
        row: Its place among the rows.
        largest: Its copies.
        share: Its part of the file, 0 to 1.
        adjacent: Pairs of neighbours in the file that must both be this row; above zero only if
            it takes more than half.
        said: A warning, or empty where there is nothing to warn of.
    """

    row: int
    largest: int
    share: float
    adjacent: int
    said: str


def copies(weights: Floats, size: int, seed: int) -> Ints:
    """How often each row goes into a file of ``size`` lines.

    Fractions of expected numbers are whole numbers of parts, 2**38 or more to a copy up to ten
    million rows. So what the module says of counts and of their sum does not hang on rounding.

    Args:
        weights: Non-negative weights, not all zero, of any scale. Shape (n,).
        size: Lines of the file.
        seed: The same seed gives the same counts.

    Returns:
        Counts. Shape (n,).

    Raises:
        ConfigError: If the size cannot be used.
        DataError: If these are no weights.

    Example:
        >>> copies(np.array([2.0, 1.0, 0.0, 1.0]), 8, seed=0)
        array([4, 2, 0, 2])
    """
    if not 1 <= size <= MOST_LINES:
        message = f"a file of {size} lines was asked for; it must have 1 to {MOST_LINES}."
        raise ConfigError(message)
    sure, parts, unit = _expected(weights, size)
    rng = _stream(seed, _COMB)
    rows = rng.permutation(np.flatnonzero(parts))
    shift = int(rng.integers(unit))
    ends = np.cumsum(parts[rows])
    teeth = -((shift - ends) // unit)  # those at shift, shift + unit, ... that lie before each end
    sure[rows] += np.diff(teeth, prepend=0)
    return sure


def order(counts: Ints, seed: int) -> Ints:
    """A shuffled order of a file in which copies of a row stand far apart.

    No two neighbours are alike unless one row takes more than half of the file; then as few are
    as can be, and its runs are of one length, give or take one. Copies of a row stand at least
    size / max(counts) / 2 - 2 lines apart, those of one row at most excepted, and mostly farther.

    The row with the most copies, m, opens m rounds of the file. All other copies, row after row in
    random order, are dealt out to the rounds in steps of the golden ratio, which puts the copies
    of a row into rounds far from each other, and none twice into one round.

    Args:
        counts: Copies of each row. Shape (n,).
        seed: The same seed gives the same order.

    Returns:
        The row of each line. Shape (sum counts,).

    Example:
        >>> order(np.array([3, 1, 0, 1]), seed=0)
        array([0, 3, 0, 1, 0])
    """
    rng = _stream(seed, _ORDER)
    size = int(counts.sum())
    if not size:
        return np.zeros(0, dtype=np.int64)
    heaviest = int(counts.argmax())
    n_rounds = int(counts[heaviest])
    rows = rng.permutation(np.flatnonzero(counts))
    rows = rows[rows != heaviest]
    others = np.repeat(rows, counts[rows])  # (size - n_rounds,)
    # rounds that others go to: all, or, where they are too few, as many at equal distances
    n_used = min(len(others), n_rounds)
    used = np.arange(n_rounds)
    if n_used < n_rounds:
        used = np.arange(1, max(n_used, 1) + 1) * n_rounds // (n_used + 1) - 1
    del rows
    # the file may have many millions of lines, so that nothing is held which is not needed any more
    turn, keys = np.divmod(np.arange(len(others)), len(used))
    keys *= _golden_step(len(used))
    keys += int(rng.integers(len(used)))
    keys %= len(used)
    keys = used[keys]
    # shuffled inside each half of a round: in a whole one copies of two rounds could come together
    keys *= 2
    turn *= 2
    keys += turn >= -(-len(others) // len(used))
    del turn
    keys *= size
    keys += rng.permutation(len(others))
    first = 2 * size * np.arange(n_rounds) - 1  # before all others of its round
    keys = np.argsort(np.concatenate([first, keys]))
    made = np.concatenate([np.full(n_rounds, heaviest), others])[keys]
    # every round has others at its end, so the file may be cut anywhere and begun there
    return np.roll(made, int(rng.integers(size))) if n_used == n_rounds else made


def takeover(counts: Ints) -> Takeover:
    """What the row with the most copies takes of a file, and whether that calls for a warning.

    Args:
        counts: Copies of each row, not all zero. Shape (n,).

    Example:
        >>> takeover(np.array([1, 12, 3])).said
        'One row stands 12 times among 16 lines (75 %). At least 7 times it follows itself.'
    """
    row, size = int(counts.argmax()), int(counts.sum())
    largest = int(counts[row])
    share = largest / size
    adjacent = max(0, 2 * largest - size - 1)
    said = ""
    if largest >= MANY_COPIES or (largest >= 3 and share >= LARGE_SHARE):
        said = f"One row stands {largest} times among {size} lines ({100 * share:.2g} %)."
        if adjacent:
            said += f" At least {adjacent} times it follows itself."
    return Takeover(row, largest, share, adjacent, said)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of one epoch's file, below 2**53 so that every reader of JSON keeps it.

    Example:
        >>> epoch_seed(0, 1) == epoch_seed(0, 1), epoch_seed(0, 1) == epoch_seed(0, 2)
        (True, False)
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_EPOCH, epoch))
    return int(sequence.generate_state(1, np.uint64)[0] >> 11)


def _stream(seed: int, purpose: int) -> np.random.Generator:
    """Random numbers for one purpose."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))


def _expected(weights: Floats, size: int) -> tuple[Ints, Ints, int]:
    """The copies that are sure, (n,), and the fractions left, (n,), as parts of a whole ``unit``.

    Both add up to the size exactly: sum(sure) * unit + sum(parts) = size * unit.
    """
    shares = mean_one(weights)
    expected = shares * (size / len(shares))
    unit = 1 << min(40, 62 - len(shares).bit_length())  # so that the sum of parts fits
    sure = np.floor(expected).astype(np.int64)
    parts = np.rint((expected - sure) * unit).astype(np.int64)
    missing = (size - int(sure.sum())) * unit - int(parts.sum())
    while missing:  # a few parts lost to rounding, spread over all that are not whole already
        open_rows = np.flatnonzero((parts > 0) & (parts < unit))
        each, rest = divmod(missing, len(open_rows))
        given = np.full(len(open_rows), each)
        given[:rest] += 1
        changed = np.clip(parts[open_rows] + given, 0, unit)
        missing -= int((changed - parts[open_rows]).sum())
        parts[open_rows] = changed
    return sure, parts, unit


def _golden_step(n: int) -> int:
    """The step nearest below n / golden ratio that visits all of ``n`` places before it returns."""
    step = max(1, round(n * _GOLDEN))
    while math.gcd(step, n) > 1:
        step -= 1
    return step

"""What a scorer is, what it may look at, and how its scores become weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from trajweight.dial import turn_dial
from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

    from trajweight.ground import Ground

    Floats = NDArray[np.float64]

#: What a scorer needs beside the rows: nothing, forward passes of the model, or training.
Needs = Literal["rows", "model", "training"]


@dataclass(frozen=True)
class Pool:
    """What scorers may look at: training and validation rows, never dev or test.

    The tables have the columns of the trajectory table with ``split``, ``messages_json`` and
    ``tools_json``.

    Attributes:
        synthetic: The rows to be weighed, in the order of the weights.
        real: Real rows of splits "train" and "validation".
        seed: Of whatever is drawn.
        ground: The model at work on the same rows; made at the first call. Its material has the
            synthetic rows in the order of ``synthetic``.
    """

    synthetic: pl.DataFrame
    real: pl.DataFrame
    seed: int
    ground: Callable[[], Ground]

    def __post_init__(self) -> None:
        """Refuse held-out rows here, where every scorer passes, and not in each of them.

        Raises:
            ValueError: If a real row is of another split.
        """
        strangers = set(self.real["split"]) - {"train", "validation"}
        if strangers:
            message = f"real rows of split {', '.join(sorted(map(str, strangers)))} among a pool's"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a scorer says.

    Attributes:
        scores: The higher, the more a row should count. Shape (n,).
        weights: Where the method itself says how much, its non-negative weights, of any scale;
            None where it says only which row before which. Shape (n,).
    """

    scores: Floats
    weights: Floats | None = None


class Scorer(Protocol):
    """A way to weigh synthetic trajectories."""

    @property
    def name(self) -> str:
        """As on the command line: dsir, base-nll-low."""

    @property
    def sentence(self) -> str:
        """What it says and where it is from, for help and reports."""

    @property
    def needs(self) -> Needs:
        """What it needs beside the rows."""

    def score(self, pool: Pool) -> Scored:
        """Scores of the pool's synthetic rows.

        Raises:
            ConfigError: If the pool lacks what the scorer needs, with the reason in words; a table
                of several methods then shows the reason instead.
        """


#: The least weight that a ranking gives is exp(-80) of the greatest: nothing, but in float32 too
#: still above zero.
_DEPTH: Final = 80.0
#: exp(-700) of the greatest is about the least that float64 holds in full.
_DEEPEST: Final = 700.0


def weights_of(scored: Scored, *, target_ess: float) -> Floats:
    """Weights with mean one and an ESS/n of at least the target.

    A method's own weights are tempered where they fall below it; where that is not enough, since
    tempering keeps zeros, they are mixed with uniform ones besides. Scores that only rank become
    exp(t z), z being the normal quantiles of their mid-ranks, with the greatest t that keeps the
    target; so all rankings are compared at the same concentration. Scores that are all equal give
    ones. Where many rows share the best score, no t goes down to the target; the others then weigh
    next to nothing.

    Args:
        scored: Finite scores, or non-negative weights of which at least one is above zero.
        target_ess: Above 0 and at most 1.

    Raises:
        ConfigError: If the target cannot be used.
        DataError: If the weights are no weights, or a score is not finite.

    Example:
        >>> weights_of(Scored(np.array([3.0, 1.0, 1.0])), target_ess=0.9).round(3)
        array([1.471, 0.764, 0.764])
        >>> weights_of(Scored(np.zeros(2), np.array([1.0, 0.0])), target_ess=0.8)
        array([1.5, 0.5])
    """
    own = _of_ranks(scored.scores) if scored.weights is None else scored.weights
    done = turn_dial(own, target_ess, "temper")
    if not done.is_met:
        done = turn_dial(done.weights, target_ess, "mix")
    return done.weights


def from_logs(logs: Floats) -> Floats:
    """Weights of which the logarithms are known, scaled so that the greatest is one: (n,) to (n,).

    Logarithms that lie further apart than float64 can tell are first multiplied by a number below
    one, all by the same. `weights_of` tempers such weights, which is to do just that, much further
    anyway; so nothing is lost, while cutting them off would make rows alike that are not.

    Args:
        logs: Finite natural logarithms. Shape (n,).

    Example:
        >>> from_logs(np.log([1.0, 4.0]))
        array([0.25, 1.  ])
    """
    below = logs - logs.max()
    furthest = -float(below.min())
    found: Floats = np.exp(below * min(1.0, _DEEPEST / furthest) if furthest else below)
    return found


def _of_ranks(scores: Floats) -> Floats:
    """exp(t z) with the greatest t there is, for the dial to lower: (n,) to (n,)."""
    from scipy.special import ndtri  # a part of a second to load
    from scipy.stats import rankdata

    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        message = f"score {bad[0]} is {scores[bad[0]]}; it must be a finite number."
        raise DataError(message)
    z = ndtri((rankdata(scores) - 0.5) / len(scores))  # (n,)
    spread = float(np.ptp(z))
    return from_logs(z * (_DEPTH / spread) if spread else z)

"""Is a method better than another, over a grid of settings and seeds, and how sure is that?

Runs are paired by setting and seed. Runs of one seed share splits and starting points across
settings, so the seed is what is drawn: the hierarchical bootstrap draws seeds for all settings at
once (and settings too, if asked), and then, in every run that was drawn, its tasks. An interval
is

    value -+ T s sqrt(u / (u - 1))

for s the standard deviation over the resamples, u the number of seeds (or of settings, where those
are drawn and fewer) and T Student's quantile with u - 1 degrees of freedom. Without tasks and with
no run missing, the interval of a mean is Student's interval over the seeds' means. Plain
percentiles of five seeds would be less than two thirds as wide.

Reference:
    Davison and Hinkley, Bootstrap methods and their application, 1997, section 3.8 (hierarchies);
    Agarwal et al., Deep RL at the edge of the statistical precipice, NeurIPS 2021 (interquartile
    mean, probability of improvement); Fisher, The design of experiments, 1935, section 21 (signs
    flipped); Holm, A simple sequentially rejective multiple test procedure, 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.analysis.facts import Facts
from trajweight.analysis.resampling import Interval, student

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    #: Name of a setting, and seed.
    Place = tuple[str, int]

#: Whether the settings are all there is to speak of, or a sample of such settings.
Settings = Literal["fixed", "resampled"]

#: Resamples; 2000 know a standard deviation to 1.6 %.
REPLICATES: Final = 2_000
#: Up to so many seeds every way to flip signs is looked at.
EXACT_SEEDS: Final = 14
#: Beyond, so many random ways.
FLIPS: Final = 20_000
#: Points at which a distribution is looked at; tails are then known to 1e-4.
_POINTS: Final = 4_000
#: Equal sums differ by rounding.
_ROUNDING: Final = 1e-12
BY_SEED: Final = "bootstrap of seeds"
BY_TASK: Final = "bootstrap of seeds, then tasks"
BY_SETTING: Final = "bootstrap of settings and seeds"
BY_SETTING_TASK: Final = "bootstrap of settings and seeds, then tasks"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a method came to.

    Attributes:
        value: The measure.
        by_task: The measure task by task, where there are tasks; ``value`` is its mean.
    """

    value: float
    by_task: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Two methods on the same settings and seeds.

    Attributes:
        settings: Names, sorted. Length S.
        seeds: Rising. Length N.
        first: Values of one method, NaN where either has no run. Shape (S, N).
        second: Values of the other. Shape (S, N).
        by_task: Differences task by task, by place in the grid, for runs with common tasks.
        n_unpaired: Runs of either that have no partner, and were left out.
    """

    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    first: Floats
    second: Floats
    by_task: Mapping[tuple[int, int], Floats]
    n_unpaired: int

    @property
    def differences(self) -> Floats:
        """First less second. Shape (S, N)."""
        return self.first - self.second


@dataclass(frozen=True, slots=True)
class Difference(Facts):
    """How far one method is from another.

    Attributes:
        n_settings: Settings that both have.
        n_seeds: Seeds.
        n_runs: Pairs of runs.
        n_unpaired: Runs without a partner, left out.
        mean: First less second: the mean over settings of the mean over seeds.
        interval: Of the mean; None with fewer than two seeds.
        iqm: Interquartile mean of the differences of all pairs.
        iqm_interval: Of it.
        improvement: Share of pairs in which the first is above the second, ties counting half; the
            mean over settings.
        improvement_interval: Of it.
        improvement_any: The same over all pairs of any two seeds of a setting, as rliable has it.
        improvement_any_interval: Of it.
        p_value: Of a test that flips the signs of whole seeds.
        detectable: The least true mean that such seeds find in 80 of 100 cases at 5 %.
    """

    n_settings: int
    n_seeds: int
    n_runs: int
    n_unpaired: int
    mean: float
    interval: Interval | None
    iqm: float
    iqm_interval: Interval | None
    improvement: float
    improvement_interval: Interval | None
    improvement_any: float
    improvement_any_interval: Interval | None
    p_value: float
    detectable: float | None


@dataclass(frozen=True, slots=True)
class Level(Facts):
    """How high a method stands by itself.

    Attributes:
        n_seeds: Seeds.
        n_runs: Runs.
        mean: The mean over settings of the mean over seeds.
        interval: Of the mean; None with fewer than two seeds.
        iqm: Interquartile mean of all runs.
    """

    n_seeds: int
    n_runs: int
    mean: float
    interval: Interval | None
    iqm: float


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """The grid drawn again.

    Attributes:
        settings: Setting at each place. Shape (R, S).
        seeds: Seed at each place. Shape (R, N).
        differences: Differences there, by tasks drawn again. Shape (R, S, N).
        n_units: Units of the level with the fewest.
        method: What was drawn.
    """

    settings: Ints
    seeds: Ints
    differences: Floats
    n_units: int
    method: str

    def interval(
        self, value: float, drawn: Floats, *, least: float = -math.inf, most: float = math.inf
    ) -> Interval | None:
        """The interval of a statistic.

        Args:
            value: On the grid itself.
            drawn: On each resample, NaN where it does not exist. Shape (R,).
            least: Nothing below it can be.
            most: Nothing above it can be.

        Returns:
            None where a single unit says nothing of the spread.
        """
        error = self.error(drawn)
        if error is None or not math.isfinite(value):
            return None
        far = student(self.n_units) * error
        return Interval(max(value - far, least), min(value + far, most), self.method)

    def error(self, drawn: Floats) -> float | None:
        """The standard error of a statistic, from its values on the resamples. Shape (R,)."""
        kept = drawn[np.isfinite(drawn)]
        if self.n_units < 2 or len(kept) < 2:
            return None
        return float(kept.std(ddof=1)) * math.sqrt(self.n_units / (self.n_units - 1))


def paired(first: Mapping[Place, Run], second: Mapping[Place, Run]) -> Paired:
    """Put the runs of two methods side by side; what has no partner is counted and left out."""
    both = sorted(set(first) & set(second))
    settings = tuple(sorted({setting for setting, _ in both}))
    seeds = tuple(sorted({seed for _, seed in both}))
    grids = np.full((2, len(settings), len(seeds)), np.nan)
    by_task = {}
    row = {setting: at for at, setting in enumerate(settings)}
    column = {seed: at for at, seed in enumerate(seeds)}
    for setting, seed in both:
        place = row[setting], column[seed]
        one, two = first[setting, seed], second[setting, seed]
        grids[(0, *place)], grids[(1, *place)] = one.value, two.value
        tasks = sorted(set(one.by_task) & set(two.by_task))
        if tasks:
            by_task[place] = np.array([one.by_task[task] - two.by_task[task] for task in tasks])
    n_unpaired = len(first) + len(second) - 2 * len(both)
    return Paired(settings, seeds, grids[0], grids[1], by_task, n_unpaired)


def level(
    runs: Mapping[Place, Run],
    *,
    settings: Settings = "fixed",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Level | None:
    """A method by itself, with the interval that a difference from zero would have.

    Args:
        runs: Of the method.
        settings: Whether the settings are drawn again too.
        replicates: Resamples.
        seed: Of the draws.

    Returns:
        None where there is no run.
    """
    if not runs:
        return None
    nothing = {place: Run(0.0, dict.fromkeys(run.by_task, 0.0)) for place, run in runs.items()}
    pairs = paired(runs, nothing)
    drawn = resamples(pairs, settings=settings, replicates=replicates, seed=seed)
    mean = float(grid_mean(pairs.first))
    return Level(
        n_seeds=len(pairs.seeds),
        n_runs=len(runs),
        mean=mean,
        interval=drawn.interval(mean, grid_mean(drawn.differences)),
        iqm=float(interquartile_mean(pairs.first)),
    )


def compare(
    pairs: Paired, *, settings: Settings = "fixed", replicates: int = REPLICATES, seed: int = 0
) -> Difference | None:
    """All there is to say of two methods; None where they share no run.

    Args:
        pairs: At least one pair.
        settings: Whether the settings are drawn again too.
        replicates: Resamples.
        seed: Of the draws.
    """
    if not pairs.settings:
        return None
    differences = pairs.differences
    drawn = resamples(pairs, settings=settings, replicates=replicates, seed=seed)
    means = grid_mean(drawn.differences)
    mean = float(grid_mean(differences))
    iqm = float(interquartile_mean(differences))
    wins = _won(pairs.first, pairs.second)
    wins_drawn = _filled(
        wins[drawn.settings[:, :, None], drawn.seeds[:, None, :]], wins, drawn.settings
    )
    share = float(grid_mean(wins))
    any_share, any_drawn = _any_improvement(pairs, drawn)
    error = drawn.error(means)
    n_seeds = len(pairs.seeds)
    return Difference(
        n_settings=len(pairs.settings),
        n_seeds=n_seeds,
        n_runs=int(np.isfinite(differences).sum()),
        n_unpaired=pairs.n_unpaired,
        mean=mean,
        interval=drawn.interval(mean, means),
        iqm=iqm,
        iqm_interval=drawn.interval(iqm, interquartile_mean(drawn.differences)),
        improvement=share,
        improvement_interval=drawn.interval(share, grid_mean(wins_drawn), least=0.0, most=1.0),
        improvement_any=any_share,
        improvement_any_interval=drawn.interval(any_share, any_drawn, least=0.0, most=1.0),
        p_value=sign_flip_test(differences, seed=seed),
        detectable=None
        if error is None
        else minimal_detectable_effect(error * math.sqrt(drawn.n_units), drawn.n_units),
    )


def resamples(
    pairs: Paired, *, settings: Settings = "fixed", replicates: int = REPLICATES, seed: int = 0
) -> Resamples:
    """Draw the grid again: seeds for all settings at once, then tasks inside each run drawn.

    A run that was drawn twice has its tasks drawn twice. A task's run keeps its value but for the
    tasks: it moves by the mean of the drawn differences less the mean of all.
    """
    rng = np.random.default_rng(seed)
    differences = pairs.differences
    n_settings, n_seeds = differences.shape
    seed_at = rng.integers(n_seeds, size=(replicates, n_seeds))
    is_drawn = settings == "resampled"
    setting_at = (
        rng.integers(n_settings, size=(replicates, n_settings))
        if is_drawn
        else np.tile(np.arange(n_settings), (replicates, 1))
    )
    # (R, S, N), the run at each place as one number
    run = setting_at[:, :, None] * n_seeds + seed_at[:, None, :]
    found = differences.ravel()[run]
    if pairs.by_task:
        flat, moved = run.ravel(), found.ravel()
        order = np.argsort(flat, kind="stable")
        ends = np.cumsum(np.bincount(flat, minlength=differences.size))
        for (row, column), tasks in sorted(pairs.by_task.items()):
            code = row * n_seeds + column
            places = order[(ends[code - 1] if code else 0) : ends[code]]
            again = rng.integers(len(tasks), size=(len(places), len(tasks)))
            moved[places] += tasks[again].mean(axis=1) - tasks.mean()
        found = moved.reshape(run.shape)
    found = _filled(found, differences, setting_at)
    names = {
        (False, False): BY_SEED,
        (False, True): BY_TASK,
        (True, False): BY_SETTING,
        (True, True): BY_SETTING_TASK,
    }
    return Resamples(
        setting_at,
        seed_at,
        found,
        min(n_seeds, n_settings) if is_drawn else n_seeds,
        names[is_drawn, bool(pairs.by_task)],
    )


def grid_mean(values: Floats) -> Floats:
    """The mean over settings of the mean over seeds: (..., S, N) to (...,); NaN is not there."""
    return _mean(_mean(values))


def interquartile_mean(values: Floats) -> Floats:
    """The mean without the lowest and the highest quarter of all runs: (..., S, N) to (...,).

    A quarter is rounded down to whole runs; NaN is not there.

    Example:
        >>> float(interquartile_mean(np.array([[0.0, 1.0], [3.0, 100.0]])))
        2.0
    """
    flat = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)  # NaN stand last
    n = np.isfinite(flat).sum(axis=-1, keepdims=True)
    place = np.arange(flat.shape[-1])
    return _mean(np.where((place >= n // 4) & (place < n - n // 4), flat, np.nan))


def sign_flip_test(differences: Floats, *, flips: int = FLIPS, seed: int = 0) -> float:
    """How often the mean is as far from zero when seeds swap the names of the two methods.

    If the methods are equally good, a seed's differences in all settings are as likely as their
    negatives. All 2^N ways are looked at where the seeds are few, else random ones; the true one
    counts among those, so p is never zero. The least p with N seeds is 2 / 2^N.

    Args:
        differences: NaN where there is no pair. Shape (S, N).
        flips: Random ways, where there are too many to look at all.
        seed: Of these.

    Example:
        >>> sign_flip_test(np.array([[1.0, 2.0, 3.0]]))
        0.25
    """
    n_seeds = differences.shape[1]
    # The mean is a sum of one part a seed.
    inside = np.isfinite(differences).sum(axis=1, keepdims=True)
    parts = np.nan_to_num(differences / np.maximum(inside, 1)).sum(axis=0)
    far = abs(float(parts.sum())) - _ROUNDING * float(np.abs(parts).sum())
    if n_seeds <= EXACT_SEEDS:
        ways = (np.arange(2**n_seeds)[:, None] >> np.arange(n_seeds)) & 1
        return float((np.abs((1.0 - 2.0 * ways) @ parts) >= far).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, n_seeds))
    return (1 + int((np.abs(signs @ parts) >= far).sum())) / (flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: those at most alpha are rejected with a family-wise error of alpha.

    The k-th smallest of m is multiplied by m - k + 1, and none may be below one before it.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    p = np.array(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty(len(p))
    found[order] = np.minimum(stepped, 1.0)
    return [float(each) for each in found]


def minimal_detectable_effect(
    deviation: float, n: int, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The true mean of paired differences that a two-sided t test of n pairs finds so often.

    Solves P(|T| > t) = power for T of the noncentral t distribution. For many pairs it is
    2.80 deviation / sqrt(n), so that n = 7.85 (deviation / effect)^2.

    Args:
        deviation: Standard deviation of the differences.
        n: Pairs, at least 2.
        alpha: Level of the test.
        power: How often the effect shall be found.
    """
    return _detectable_shift(n, alpha, power) * deviation / math.sqrt(n)


@cache
def _detectable_shift(n: int, alpha: float, power: float) -> float:
    """The same in standard errors."""
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr, stdtrit

    # T is (normal + shift) / c: its tails are means of normal ones over the distribution of c.
    part = (np.arange(_POINTS) + 0.5) / _POINTS
    c = np.sqrt(2.0 * gammaincinv((n - 1) / 2.0, part) / (n - 1))
    edge = float(stdtrit(n - 1, 1.0 - alpha / 2.0)) * c

    def short(shift: float) -> float:
        return power - float((ndtr(shift - edge) + ndtr(-shift - edge)).mean())

    high = float(edge.mean())
    while short(high) > 0:
        high *= 2.0
    return float(brentq(short, 0.0, high))


def _any_improvement(pairs: Paired, drawn: Resamples) -> tuple[float, Floats]:
    """Improvement over any two seeds of a setting, on the grid and on each resample (R,)."""
    n_settings, n_seeds = pairs.first.shape
    wins = _won(pairs.first[:, :, None], pairs.second[:, None, :])  # (S, N, N)
    there = np.isfinite(wins).astype(np.float64)
    won = np.nan_to_num(wins)
    counts = _counts(drawn.seeds, n_seeds)
    often = _counts(drawn.settings, n_settings)

    def shares(counts: Floats) -> Floats:
        above, below = (
            np.einsum("rsj,rj->rs", np.einsum("ri,sij->rsj", counts, side), counts)
            for side in (won, there)
        )
        missing = np.full_like(above, np.nan)
        found: Floats = np.divide(above, below, out=missing, where=below > 0)
        return found

    whole = shares(np.ones((1, n_seeds)))[0]  # (S,)
    again = shares(counts)
    again = np.where(np.isfinite(again), again, whole)  # (R, S)
    return float(whole.mean()), (often * again).sum(axis=1) / n_settings


def _filled(drawn: Floats, grid: Floats, settings: Ints) -> Floats:
    """Give a setting of which no run was drawn its own mean: it must not fall out of the grid."""
    is_empty = ~np.isfinite(drawn).any(axis=-1, keepdims=True)
    return np.where(is_empty, _mean(grid)[settings][:, :, None], drawn)


def _won(first: Floats, second: Floats) -> Floats:
    """1 where the first is above, 1/2 at a tie, 0 below, NaN where there is no pair."""
    return (np.sign(first - second) + 1.0) / 2.0


def _counts(drawn: Ints, n: int) -> Floats:
    """How often each of n was drawn in each line: (R, m) to (R, n)."""
    lines = np.arange(len(drawn))[:, None] * n + drawn
    return np.bincount(lines.ravel(), minlength=len(drawn) * n).reshape(-1, n).astype(np.float64)


def _mean(values: Floats) -> Floats:
    """The mean of the last axis without NaN; NaN where nothing is left."""
    there = np.isfinite(values)
    n = there.sum(axis=-1)
    found: Floats = np.divide(
        np.where(there, values, 0.0).sum(axis=-1),
        n,
        out=np.full(n.shape, np.nan),
        where=n > 0,
    )
    return found

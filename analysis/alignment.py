"""Does the weighted synthetic set lie nearer to the real one than the unweighted set?

Asked of the embeddings in four ways, of plain features and of words. No single measure sees
everything, so all are shown, each before and after weighting and with the band that weights dealt
at random would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from trajweight.analysis.chance import PERMUTATIONS, Comparison, compare, share_columns, subsample
from trajweight.analysis.discrepancy import (
    DIRECTIONS,
    PValues,
    distance,
    gaussian,
    mean_kernels,
    median_distance,
    mmd_p_values,
    pair_discrepancies,
    sliced_wasserstein,
    standardised,
)
from trajweight.analysis.facts import Facts
from trajweight.analysis.groups import codes_of
from trajweight.analysis.shifts import FEATURES, FeatureShifts, feature_shifts
from trajweight.analysis.text_divergence import TextDivergence, spoken, text_divergence
from trajweight.analysis.two_sample import TwoSample, two_sample
from trajweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Beyond this many rows a side is subsampled for one energy distance.
MAX_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Effort:
    """What the measures may cost; a million rows cost no more than these.

    Attributes:
        embedding_rows: Rows of either side whose embeddings are compared.
        feature_rows: Rows of either side whose features are compared.
        text_rows: Rows of either side whose words are counted.
        permutations: Deals of the weights, for every band.
        directions: Lines of the sliced Wasserstein distance.
    """

    embedding_rows: int = 2_000
    feature_rows: int = 10_000
    text_rows: int = 1_000
    permutations: int = PERMUTATIONS
    directions: int = DIRECTIONS


@dataclass(frozen=True, slots=True)
class EmbeddingDistances(Facts):
    """How far the embeddings of synthetic rows lie from those of real ones.

    Attributes:
        energy: Energy distance, in standard deviations a dimension; unbiased, so that equal
            distributions give about zero, and at times less.
        mmd: Squared maximum mean discrepancy, unbiased.
        mmd_bandwidth: Of its Gaussian kernel: the median distance of two rows.
        mmd_p_before: How often rows of one set, split at random, lie as far apart as synthetic
            and real rows do.
        mmd_p_after: The same with the weights.
        sliced_wasserstein: In standard deviations.
        classifier: None where too few tasks have rows of both sides.
        n_synthetic: Synthetic rows used.
        n_real: Real rows used.
    """

    energy: Comparison
    mmd: Comparison
    mmd_bandwidth: float
    mmd_p_before: float
    mmd_p_after: float
    sliced_wasserstein: Comparison
    classifier: TwoSample | None
    n_synthetic: int
    n_real: int


@dataclass(frozen=True, slots=True)
class DistributionAlignment(Facts):
    """Where the weights moved the synthetic set.

    Attributes:
        embeddings: By what the frozen model saw.
        features: By turns, length, tool use and reward.
        text: By words.
        not_measured: By name of what is None, the reason.
        n_synthetic: Synthetic rows there were; what was used stands with each measure.
        n_real: Real rows there were.
        seed: Of subsamples, deals, folds and directions.
    """

    embeddings: EmbeddingDistances | None
    features: FeatureShifts
    text: TextDivergence | None
    not_measured: dict[str, str]
    n_synthetic: int
    n_real: int
    seed: int


def distribution_alignment(
    synthetic: pl.DataFrame,
    real: pl.DataFrame,
    *,
    features: Sequence[str] = FEATURES,
    dealt_by: str | None = None,
    seed: int = 0,
    effort: Effort | None = None,
) -> DistributionAlignment:
    """Measure the weighted synthetic rows against the real ones, in every way the columns allow.

    Args:
        synthetic: One row a trajectory, with ``weight`` and, where known, ``embedding``,
            ``task_id``, ``messages_json`` and the features.
        real: The same without ``weight``. Best are rows that the weights were not fitted to.
        features: Numeric columns.
        dealt_by: Column of the groups that weights are dealt by; by row when not given. See
            `chance.share_columns`.
        seed: Of everything drawn.
        effort: What it may cost.

    Raises:
        DataError: If weights are not finite, negative or all zero, or embeddings are not finite
            or of different lengths.
    """
    effort = effort or Effort()
    groups = None if dealt_by is None else codes_of(synthetic[dealt_by])[0]
    not_measured: dict[str, str] = {}
    embeddings, text = None, None
    if "embedding" not in synthetic.columns or "embedding" not in real.columns:
        not_measured["embeddings"] = "no embeddings"
    else:
        embeddings = _embedding_distances(synthetic, real, groups, seed, effort)
        if embeddings is None:
            not_measured["embeddings"] = "too few rows with an embedding on one side"
    if "messages_json" not in synthetic.columns or "messages_json" not in real.columns:
        not_measured["text"] = "no messages"
    else:
        text = text_divergence(
            synthetic["messages_json"].fill_null("[]"),
            synthetic["weight"].to_numpy(),
            real["messages_json"].fill_null("[]"),
            read=spoken,
            groups=groups,
            seed=seed,
            permutations=effort.permutations,
            max_rows=effort.text_rows,
        )
        if text is None:
            not_measured["text"] = "no row with two words on one side"
    return DistributionAlignment(
        embeddings=embeddings,
        features=feature_shifts(
            synthetic,
            real,
            features=features,
            groups=groups,
            seed=seed,
            permutations=effort.permutations,
            max_rows=effort.feature_rows,
        ),
        text=text,
        not_measured=not_measured,
        n_synthetic=synthetic.height,
        n_real=real.height,
        seed=seed,
    )


def embeddings_of(rows: pl.DataFrame) -> Floats:
    """The column ``embedding`` as an array. Shape (n, d).

    Raises:
        DataError: If a row has no embedding, or the rows' embeddings differ in length.
    """
    missing = rows["embedding"].null_count()
    if missing:
        message = f"{missing} of {rows.height} rows have no embedding."
        raise DataError(message, hint="Leave out the rows that have none.")
    lengths = rows["embedding"].list.len().unique().sort().to_list()
    if len(lengths) > 1:
        message = f"embeddings have {lengths[0]} to {lengths[-1]} numbers; rows must match."
        raise DataError(message, hint="Do not mix the features of different models.")
    values = rows["embedding"].explode().cast(pl.Float64).to_numpy()
    return values.reshape(rows.height, -1) if rows.height else np.empty((0, 0))


def _embedding_distances(
    synthetic: pl.DataFrame,
    real: pl.DataFrame,
    groups: Ints | None,
    seed: int,
    effort: Effort,
) -> EmbeddingDistances | None:
    """All distances of the embeddings; None where a side has fewer than two rows that count."""
    known, known_real = (
        each["embedding"].is_not_null().arg_true().to_numpy() for each in (synthetic, real)
    )
    known = known[subsample(len(known), effort.embedding_rows, seed=seed)]
    known_real = known_real[subsample(len(known_real), effort.embedding_rows, seed=seed)]
    synthetic, real = synthetic[known], real[known_real]
    weights = synthetic["weight"].to_numpy()
    if min(synthetic.height, real.height) < 2 or not _has_pairs(weights):
        return None
    x, y = standardised(embeddings_of(synthetic), embeddings_of(real))
    shares = share_columns(
        weights,
        permutations=effort.permutations,
        seed=seed,
        groups=None if groups is None else groups[known],
    )
    bandwidth = median_distance(x, y, seed=seed)
    energy, similarity = pair_discrepancies(x, shares, y, [distance, gaussian(bandwidth)])
    p_values: PValues = mmd_p_values(
        x, weights, y, bandwidth=bandwidth, permutations=effort.permutations, seed=seed
    )
    return EmbeddingDistances(
        energy=compare(energy),
        mmd=compare(-similarity),
        mmd_bandwidth=bandwidth,
        mmd_p_before=p_values.before,
        mmd_p_after=p_values.after,
        sliced_wasserstein=compare(
            sliced_wasserstein(x, shares, y, directions=effort.directions, seed=seed)
        ),
        classifier=two_sample(x, shares, y, tasks=_tasks(synthetic, real), seed=seed),
        n_synthetic=len(x),
        n_real=len(y),
    )


def _has_pairs(weights: Floats) -> bool:
    """Whether two different rows drawn by their weights can be had: not all mass is on one."""
    return bool(weights.max() < (1.0 - 1e-9) * weights.sum())


def _tasks(synthetic: pl.DataFrame, real: pl.DataFrame) -> Ints:
    """The task of every synthetic row, then of every real one; each its own without a column."""
    if "task_id" not in synthetic.columns or "task_id" not in real.columns:
        return np.arange(synthetic.height + real.height)
    return codes_of(pl.concat([synthetic["task_id"], real["task_id"]]))[0]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Distances of the synthetic set from the real one, in standard deviations a dimension.

    Attributes:
        unweighted: Energy distance with every synthetic row counting the same. An unbiased
            estimate, so two samples of one distribution give about zero, and at times less.
        weighted: The same with the weights.
        gain_error: Standard error of ``unweighted - weighted`` over the real rows.
        n_synthetic: Synthetic rows that were used.
        n_real: Real rows that were used.
    """

    unweighted: float
    weighted: float
    gain_error: float
    n_synthetic: int
    n_real: int

    @property
    def gain(self) -> float:
        """How much nearer the weights bring the synthetic set; negative when they push it away."""
        return self.unweighted - self.weighted


def alignment(
    synthetic: Floats, weights: Floats, real: Floats, *, seed: int = 0, max_rows: int = MAX_ROWS
) -> Alignment | None:
    """Energy distance alone, with the error that comes from having few real rows.

    The distance is that of `discrepancy.pair_discrepancies` on standardised rows.

    Args:
        synthetic: Embeddings. Shape (n, d).
        weights: Non-negative weights of the synthetic rows. Shape (n,).
        real: Embeddings. Shape (m, d).
        seed: Draws the subsample, where one is needed.
        max_rows: Rows of either side beyond which a subsample is drawn without replacement.

    Returns:
        None where there is nothing to compare: fewer than two rows on a side, or all of the
        weight on one row.

    Raises:
        DataError: If an embedding is not finite, or the two sides differ in length.
    """
    kept = subsample(len(synthetic), max_rows, seed=seed)
    synthetic, weights = synthetic[kept], weights[kept]
    real = real[subsample(len(real), max_rows, seed=seed)]
    if min(len(synthetic), len(real)) < 2 or not _has_pairs(weights):
        return None
    x, y = standardised(synthetic, real)
    uniform = np.full(len(x), 1.0 / len(x))
    shares = np.stack([uniform, weights / weights.sum()], axis=1)  # (n, 2)
    (distances,) = pair_discrepancies(x, shares, y, [distance])
    (to_real,) = mean_kernels(x, shares, y, [distance])  # (m, 2)
    pulls = 2.0 * (to_real[:, 0] - to_real[:, 1])  # one real row's part of the gain
    return Alignment(
        unweighted=float(distances[0]),
        weighted=float(distances[1]),
        gain_error=float(pulls.std(ddof=1) / np.sqrt(len(y))),
        n_synthetic=len(x),
        n_real=len(y),
    )

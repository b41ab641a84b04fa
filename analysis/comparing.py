"""The weighted synthetic rows of a run held against real ones, as facts, at a bounded cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.analysis.alignment import Alignment, alignment, distribution_alignment
from trajweight.analysis.alignment import embeddings_of as vectors_of
from trajweight.analysis.chance import subsample
from trajweight.analysis.groups import tasks_of
from trajweight.analysis.inequalities import posterior_width
from trajweight.analysis.rows import FEATURES
from trajweight.analysis.tradeoff import tempered, tradeoff
from trajweight.config import MINIMUM_VALIDATION
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.analysis.alignment import EmbeddingDistances
    from trajweight.run import Run

    Floats = NDArray[np.float64]

#: Rows of either side whose texts and embeddings are read.
MAX_ROWS: Final = 2_000
#: Powers of the weights along the path of temperatures; infinite is uniform.
TEMPERATURES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, float("inf"))
_HEAVIEST: Final = 0.99


@dataclass(frozen=True, slots=True)
class Sides:
    """The rows that are compared, before their texts and embeddings are read.

    Attributes:
        synthetic: Synthetic training rows, all or as many as may be read.
        real: Real rows, those that the weights were not fitted to where these suffice.
        against: A name for the real rows.
        n_synthetic: Synthetic rows there are.
        n_real: Real rows there are.
    """

    synthetic: pl.DataFrame
    real: pl.DataFrame
    against: str
    n_synthetic: int
    n_real: int

    @classmethod
    def of(
        cls,
        run: Run,
        rows: pl.DataFrame,
        learned: pl.DataFrame,
        *,
        has_trained: bool,
        seed: int = 0,
    ) -> Sides:
        """Choose the rows.

        Args:
            run: Tells whether there are embeddings.
            rows: All rows, from `rows.numbers_of`.
            learned: The synthetic training rows among them.
            has_trained: Whether real rows of this run taught the weights.
            seed: Of the subsamples.
        """
        real, against = _real(rows, has_embeddings=run.has(FEATURES), has_trained=has_trained)
        return cls(
            synthetic=learned[subsample(learned.height, MAX_ROWS, seed=seed)],
            real=real[subsample(real.height, MAX_ROWS, seed=seed)],
            against=against,
            n_synthetic=learned.height,
            n_real=real.height,
        )

    @property
    def ids(self) -> pl.Series:
        """Of the rows of both sides."""
        return pl.concat([self.synthetic["traj_id"], self.real["traj_id"]])

    def read(self, texts: pl.DataFrame, embeddings: pl.DataFrame | None) -> Sides:
        """The same sides with their texts, and their embeddings where there are any."""

        def whole(side: pl.DataFrame) -> pl.DataFrame:
            for known in (texts, embeddings):
                if known is not None:
                    side = side.join(known, on="traj_id", how="left", maintain_order="left")
            return side

        return replace(self, synthetic=whole(self.synthetic), real=whole(self.real))

    @property
    def embedded(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """The rows of both sides that have an embedding; None with fewer than two on a side."""
        if "embedding" not in self.synthetic.columns:
            return None
        known = pl.col("embedding").is_not_null()
        mine, real = self.synthetic.filter(known), self.real.filter(known)
        return (mine, real) if min(mine.height, real.height) >= 2 else None


@dataclass(frozen=True, slots=True)
class Aligned:
    """What a comparison found.

    Attributes:
        facts: Ready for the report.
        embeddings: Distances of the embeddings; None where they could not be measured.
    """

    facts: dict[str, Any]
    embeddings: EmbeddingDistances | None


def alignment_facts(sides: Sides, *, seed: int = 0) -> Aligned:
    """Distances of the synthetic from the real rows, with and without the weights.

    Args:
        sides: With texts and embeddings.
        seed: Of subsamples and deals.
    """
    facts: dict[str, Any] = {"against": sides.against, "distributions": None}
    found: Alignment | None = None
    if sides.embedded is not None:
        mine, real = sides.embedded
        weights = mine["weight"].to_numpy()
        found = alignment(vectors_of(mine), weights, vectors_of(real), seed=seed)
    if found is None:
        facts |= {"measured": False, "why": "too few rows with an embedding on one side"}
    else:
        numbers = {**asdict(found), "gain": found.gain}
        facts |= {"measured": True, "measure": "energy distance", **numbers}
    if not sides.real.height or not sides.synthetic["weight"].sum() > 0:
        return Aligned(facts, None)
    measured = distribution_alignment(sides.synthetic, sides.real, dealt_by="task_id", seed=seed)
    there_were = {"n_synthetic": sides.n_synthetic, "n_real": sides.n_real}
    facts["distributions"] = {**measured.as_dict(), **there_were}
    return Aligned(facts, measured.embeddings)


def tradeoff_facts(learned: pl.DataFrame, sides: Sides, *, seed: int = 0) -> dict[str, Any]:
    """Diversity, shift and effective sample size along a path of temperatures.

    Distances are those of the rows that were compared, sample sizes those of all rows.

    Args:
        learned: The synthetic training rows.
        sides: With embeddings, where there are any.
        seed: Of the subsample.
    """
    if sides.embedded is None:
        return {"measured": False, "why": "too few rows with an embedding on one side"}
    mine, real = sides.embedded
    weights = mine["weight"].to_numpy()
    kept = [heat for heat in TEMPERATURES if _leaves_two(weights, heat)]
    if not kept:
        return {"measured": False, "why": "fewer than two rows have any weight"}
    columns = np.stack([tempered(weights, heat) for heat in kept], axis=1)
    found = tradeoff(vectors_of(mine), columns, kept, vectors_of(real), seed=seed)
    every, tasks = learned["weight"].to_numpy(), tasks_of(learned, "task_id")
    points = []
    for point in found.points:
        made = tempered(every, point.temperature)
        ess = float(effective_sample_size(made))
        by_task = np.bincount(tasks, weights=made).astype(np.float64)
        n_eff = float(effective_sample_size(by_task))
        width = posterior_width(n_eff, found.kl, found.delta)
        share = ess / len(every)
        points.append(replace(point, ess=ess, ess_fraction=share, n_eff=n_eff, width=width))
    whole = replace(found, points=tuple(points), n_synthetic=learned.height)
    return {
        "measured": True,
        "how": "weights to the power of one over the temperature; 1 is as they are",
        **whole.as_dict(),
    }


def _leaves_two(weights: Floats, temperature: float) -> bool:
    """Whether weights at a temperature leave more than one row to speak of."""
    if len(weights) < 2 or not weights.max() > 0:
        return False
    made = tempered(weights, temperature)
    return bool(made.max() < _HEAVIEST * made.sum())


def _real(
    rows: pl.DataFrame, *, has_embeddings: bool, has_trained: bool
) -> tuple[pl.DataFrame, str]:
    """The real rows to compare with, and a name for them."""
    real = rows.filter(pl.col("origin") == "real")
    if has_embeddings:
        real = real.filter("is_embedded")
    unseen = real.filter(pl.col("split").is_in(["dev", "test"]))
    if unseen.height >= MINIMUM_VALIDATION:
        return unseen, "real dev and test rows"
    against = "real rows, all there are"
    n_seen = real.filter(pl.col("split").is_in(["train", "validation"])).height
    if has_trained and n_seen:
        against += f"; {n_seen} of them were trained on or taught the weights"
    return real, against

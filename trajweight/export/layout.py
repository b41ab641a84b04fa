"""By mode, which trajectory stands in which data file, how often, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.buckets import buckets
from trajweight.resampling import copies, epoch_seed, order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trajweight.buckets import Buckets
    from trajweight.export.request import ExportRequest
    from trajweight.trainers import Mode

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FileLayout:
    """One data file.

    Attributes:
        stem: Its name without ending.
        rows: By line, the number of the trajectory among those that go out. Shape (lines,).
        rate: The chance with which a trainer shall draw from it.
        epoch: Which epoch it is for, from 0.
    """

    stem: str
    rows: Ints
    rate: float = 1.0
    epoch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """All data files of an export.

    Attributes:
        files: In order.
        buckets: In mode buckets, what they are and what they lose.
        counts: In mode resample, copies by trajectory and epoch. Shape (n, epochs).
    """

    files: tuple[FileLayout, ...]
    buckets: Buckets | None = None
    counts: Ints | None = None


def layout_of(mode: Mode, weights: Floats, request: ExportRequest) -> Layout:
    """Lay trajectories out in files.

    Args:
        mode: How weights act.
        weights: What copies and rates follow: how often a row is read acts on a loss that sums over
            tokens as its token weight would, and on one that averages rows as its weight. (n,).
        request: What is asked for.
    """
    if mode == "resample":
        return _epochs(weights, request)
    if mode == "buckets":
        return _quantiles(weights, request.buckets)
    return Layout((FileLayout("train", np.arange(len(weights))),))


def _epochs(weights: Floats, request: ExportRequest) -> Layout:
    """A file an epoch, each drawn anew."""
    size = request.epoch_rows or len(weights)
    seeds = [epoch_seed(request.seed, epoch) for epoch in range(request.epochs)]
    counts = [copies(weights, size, seed) for seed in seeds]
    files = tuple(
        FileLayout(f"epoch-{epoch:03d}", order(found, seed), epoch=epoch)
        for epoch, (found, seed) in enumerate(zip(counts, seeds, strict=True))
    )
    return Layout(files, counts=np.stack(counts, axis=1))


def _quantiles(weights: Floats, k: int) -> Layout:
    """A file a bucket."""
    made = buckets(weights, k)
    files = tuple(
        FileLayout(f"bucket-{number}", np.flatnonzero(made.of_row == number), rate=bucket.rate)
        for number, bucket in enumerate(made.buckets)
    )
    return Layout(files, buckets=made)

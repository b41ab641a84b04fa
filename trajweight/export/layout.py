"""By mode, which trajectory stands in which data file, how often, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.buckets import buckets
from trajweight.resampling import copies, epoch_seed, order

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trajweight.buckets import Buckets
    from trajweight.export.request import ExportRequest
    from trajweight.trainers import Mode

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


#: Files of mode resample, and at most of mode buckets, where no number is asked for.
_EPOCHS: Final = 3
_BUCKETS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class FileLayout:
    """One data file.

    Attributes:
        stem: Its name without ending.
        rows: Gives by line the number of the trajectory among those that go out, (lines,). It is
            found when it is asked for, so that no more than one file's is in memory.
        rate: The chance with which a trainer shall draw from it.
        epoch: Which epoch it is for, from 0.
    """

    stem: str
    rows: Callable[[], Ints]
    rate: float = 1.0
    epoch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """All data files of an export.

    Attributes:
        files: In order.
        buckets: In mode buckets, what they are and what they lose.
        counts: In mode resample, copies by trajectory and epoch, in the shortest integers that
            hold them. Shape (n, epochs).
    """

    files: tuple[FileLayout, ...]
    buckets: Buckets | None = None
    counts: NDArray[np.integer[Any]] | None = None


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
        return _quantiles(weights, request.buckets or _BUCKETS)
    return Layout((FileLayout("train", partial(np.arange, len(weights))),))


def _epochs(weights: Floats, request: ExportRequest) -> Layout:
    """A file an epoch, each drawn anew."""
    size = request.epoch_rows or len(weights)
    seeds = [epoch_seed(request.seed, epoch) for epoch in range(request.epochs or _EPOCHS)]
    counts = np.stack([_short(copies(weights, size, seed)) for seed in seeds], axis=1)
    files = tuple(
        FileLayout(f"epoch-{epoch:03d}", partial(_line_order, counts, epoch, seed), epoch=epoch)
        for epoch, seed in enumerate(seeds)
    )
    return Layout(files, counts=counts)


def _line_order(counts: NDArray[np.integer[Any]], epoch: int, seed: int) -> Ints:
    return order(counts[:, epoch].astype(np.int64), seed)


def _short(counts: Ints) -> NDArray[np.integer[Any]]:
    """The same numbers in fewer bytes."""
    return counts.astype(np.min_scalar_type(int(counts.max())))


def _quantiles(weights: Floats, k: int) -> Layout:
    """A file a bucket."""
    made = buckets(weights, k)
    files = tuple(
        FileLayout(f"bucket-{number}", partial(_rows_in, made, number), rate=bucket.rate)
        for number, bucket in enumerate(made.buckets)
    )
    return Layout(files, buckets=made)


def _rows_in(made: Buckets, number: int) -> Ints:
    return np.flatnonzero(made.of_row == number)

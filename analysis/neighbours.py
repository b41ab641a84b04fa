"""Which rows are most like a row: nearest neighbours by the cosine of their embeddings.

Embeddings of one language model all point much the same way, so that raw cosines say little:
rows are standardised first, and zero then means "as unlike as two rows are on average".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.chance import subsample
from trajweight.analysis.facts import Facts
from trajweight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Ints = NDArray[np.int64]

#: Rows that are searched at most.
MAX_CANDIDATES: Final = 200_000
#: Rows whose mean and deviation are the yardstick.
_YARDSTICK_ROWS: Final = 20_000
#: Candidates of one block, and rows asked for; their cosines are 64 MB.
_BLOCK: Final = 8_192
_ROWS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Neighbour(Facts):
    """A row that is like another.

    Attributes:
        row: Its place among the candidates.
        similarity: Cosine of the standardised embeddings, -1 to 1.
    """

    row: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Neighbours(Facts):
    """The nearest candidates of some rows.

    Attributes:
        of: By row asked for, its neighbours, the nearest first; ties by place.
        n_candidates: Candidates there are.
        n_searched: Candidates that were looked at: all, or a subsample.
    """

    of: tuple[tuple[Neighbour, ...], ...]
    n_candidates: int
    n_searched: int


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What embeddings are standardised by; one for all searches of a run.

    Attributes:
        mean: Mean of each dimension. Shape (d,).
        scale: Deviation of each; infinite where it is constant, so that it says nothing.
    """

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, *sets: Floats, seed: int = 0) -> Yardstick:
        """Of all rows of some sets together, or of a random 20,000 of each.

        Args:
            sets: Embeddings. Shape (n, d) each.
            seed: Of the random rows.
        """
        kept = [each[subsample(len(each), _YARDSTICK_ROWS, seed=seed)] for each in sets]
        rows = np.concatenate(kept).astype(np.float64)
        deviation = rows.std(axis=0)
        return cls(rows.mean(axis=0), np.where(deviation > 0, deviation, np.inf))

    def directions(self, rows: Floats) -> NDArray[np.float64]:
        """The standardised rows at length one; a row at the mean itself stays zero: (n, d)."""
        scaled = (rows.astype(np.float64) - self.mean) / self.scale
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        found: NDArray[np.float64] = scaled / np.where(length > 0, length, 1.0)
        return found


def nearest(
    rows: Floats,
    candidates: Floats,
    yardstick: Yardstick,
    *,
    count: int,
    itself: Ints | None = None,
    max_candidates: int = MAX_CANDIDATES,
    seed: int = 0,
) -> Neighbours:
    """The candidates that are most like each row.

    Args:
        rows: Embeddings of the rows asked for. Shape (q, d).
        candidates: Embeddings of the rows to find. Shape (n, d).
        yardstick: What both are standardised by.
        count: Neighbours of a row; fewer where there are fewer candidates.
        itself: The place of each row among the candidates, -1 for none: nobody is a neighbour of
            itself. Shape (q,).
        max_candidates: Candidates beyond which a subsample is searched.
        seed: Of the subsample.

    Raises:
        ConfigError: If ``count`` is below one.
        DataError: If rows and candidates differ in length, or a value is not finite.
    """
    if count < 1:
        message = f"{count} neighbours were asked for; it takes at least 1."
        raise ConfigError(message)
    if rows.ndim != 2 or rows.shape[1:] != candidates.shape[1:]:
        message = f"embeddings have the shapes {rows.shape} and {candidates.shape}; rows must match"
        raise DataError(message)
    searched = subsample(len(candidates), max_candidates, seed=seed)
    found: list[tuple[Neighbour, ...]] = []
    for at in range(0, len(rows), _ROWS):
        part = slice(at, at + _ROWS)
        places, likeness = _search(
            yardstick.directions(rows[part]),
            candidates,
            searched,
            yardstick,
            count=count,
            itself=None if itself is None else itself[part],
        )
        found += [
            tuple(
                Neighbour(int(place), float(np.clip(like, -1.0, 1.0)))
                for place, like in zip(*pair, strict=True)
                if like > -np.inf
            )
            for pair in zip(places, likeness, strict=True)
        ]
    return Neighbours(of=tuple(found), n_candidates=len(candidates), n_searched=len(searched))


def _search(
    wanted: NDArray[np.float64],
    candidates: Floats,
    searched: Ints,
    yardstick: Yardstick,
    *,
    count: int,
    itself: Ints | None,
) -> tuple[Ints, NDArray[np.float64]]:
    """Places and cosines of the best candidates of each row, a block of candidates at a time."""
    places = np.empty((len(wanted), 0), dtype=np.int64)
    likeness = np.empty((len(wanted), 0))
    for at in range(0, len(searched), _BLOCK):
        block = searched[at : at + _BLOCK]
        found = wanted @ yardstick.directions(candidates[block]).T
        if not np.isfinite(found).all():
            message = "an embedding holds a value that is not a finite number."
            raise DataError(message, hint="Check the model: it gave NaN or infinity for a row.")
        if itself is not None:
            found[itself[:, None] == block] = -np.inf
        likeness = np.concatenate([likeness, found], axis=1)
        places = np.concatenate([places, np.broadcast_to(block, found.shape)], axis=1)
        # A stable sort keeps the earlier place first among equals.
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
        likeness = np.take_along_axis(likeness, order, axis=1)
        places = np.take_along_axis(places, order, axis=1)
    return places, likeness

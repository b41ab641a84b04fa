"""Which rows a target cannot read, and why: held in numbers, since it may be most of a run."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Refusals:
    """Places of rows in the run, from 0, each with a reason; few reasons for however many rows."""

    _reasons: dict[str, int] = field(default_factory=dict)
    _places: array[int] = field(default_factory=lambda: array("q"))
    _reason_of: array[int] = field(default_factory=lambda: array("i"))

    def __len__(self) -> int:
        """How many rows."""
        return len(self._places)

    def add(self, place: int, reason: str) -> None:
        """Tell of a row; a row is told of once."""
        self._places.append(place)
        self._reason_of.append(self._reasons.setdefault(reason, len(self._reasons)))

    def take_out(self, stays: NDArray[np.bool_]) -> Counter[str]:
        """Flag these rows as ones that do not stay.

        Args:
            stays: By place; changed. Shape (n,).

        Returns:
            Reason to number of rows, of those that would have stayed.
        """
        places = np.array(self._places, dtype=np.int64)
        reasons = np.array(self._reason_of, dtype=np.int32)[stays[places]]
        stays[places] = False
        counts = np.bincount(reasons, minlength=len(self._reasons)).tolist()
        return Counter(dict(zip(self._reasons, counts, strict=True)))

"""Rows of one table that say again what another says: the first is kept, the others are its copies.

A real row comes before every synthetic one, wherever it stands: that a generator repeats a real
row is no reason to lose the real one. A row that is a copy makes no copies itself, so in a chain
of rows each a little unlike the last, those too far from every kept row are kept too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from trajweight.duplicates import (
    DEFAULT_THRESHOLD,
    Index,
    Shingles,
    check_threshold,
    common_shingles,
    sampled,
    shingles_of,
    similarity_of,
)
from trajweight.errors import MissingError
from trajweight.sketches import BandKeys, Bands, band_keys, is_available, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Rows up to which every pair is compared, whatever is installed.
FEW_ROWS: Final = 2000
#: Rows up to which every pair is compared where sketches cannot be made; it may take minutes.
MOST_ROWS: Final = 20_000

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Copies:
    """Rows that say what others say; the three arrays have an entry a copy.

    Attributes:
        rows: Their positions, ascending.
        of: Positions of the rows that are kept.
        similarity: Jaccard similarity of their shingles; 1 for exact copies.
        how: How they were searched, and what may be missed, in words; empty for exact copies.
    """

    rows: Places
    of: Places
    similarity: NDArray[np.float64]
    how: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def by_source(self, sources: Sequence[str], source_of: Places) -> list[dict[str, Any]]:
        """How many rows of each source copy a row of which source; the most frequent pair first.

        Args:
            sources: Names.
            source_of: For each row of the table the place of its source among them.
        """
        pairs = np.stack([source_of[self.rows], source_of[self.of]], axis=1)  # (copies, 2)
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        table = [
            {"source": sources[source], "copies": sources[of], "n": n}
            for (source, of), n in zip(found.tolist(), counts.tolist(), strict=True)
        ]
        return sorted(table, key=lambda row: (-int(row["n"]), row["source"], row["copies"]))


class Texts(Protocol):
    """What the rows of a table say, read as often as it is asked for."""

    def __len__(self) -> int:
        """How many rows there are."""

    def of(self, rows: Sequence[int]) -> Iterator[str]:
        """What some rows say, whose positions ascend; see ``duplicates.comparable_text``."""


def exact_copies(keys: NDArray[np.uint64], is_real: Flags) -> Copies:
    """Rows whose key, such as a part of a content hash, another row has too.

    Args:
        keys: Shape (n,).
        is_real: Whether each row is real. Shape (n,).
    """
    order = np.lexsort((np.arange(len(keys)), ~is_real, keys))  # of one key the kept row is first
    ordered = keys[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = order[is_first][np.cumsum(is_first) - 1]  # (n,)
    rows, of = order[~is_first], first[~is_first]
    ascending = np.argsort(rows)
    return Copies(rows[ascending], of[ascending], np.ones(len(rows)))


def near_copies(
    texts: Texts,
    is_real: Flags,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    few_rows: int = FEW_ROWS,
) -> Copies:
    """Rows that nearly say what a kept row says; each names the one it is most like.

    What two texts have in common is what ``duplicates.near_duplicates`` says. Few rows are all
    compared with each other; of many, MinHash sketches name the pairs that are.

    Args:
        texts: What the rows say; they are gone through several times.
        is_real: Whether each row is real. Shape (n,).
        threshold: Least similarity of a near copy, in (0, 1].
        few_rows: Up to so many rows all pairs are compared.

    Raises:
        ConfigError: If the threshold is not in (0, 1].
        MissingError: If there are more than ``MOST_ROWS`` and the package rensa is not installed.
    """
    check_threshold(threshold)
    common = common_shingles(texts.of(sampled(len(texts))))
    search: _Search
    if len(texts) <= (few_rows if is_available() else MOST_ROWS):
        search, how = _All(texts, common), "every pair of rows was compared"
    elif is_available():
        search, how = _Sketched(texts, common, threshold), told(threshold)
    else:
        message = f"near copies among {len(texts)} rows need the package rensa"
        hint = "Install it: pip install 'trajweight[dedup]'. Or take --dedup exact."
        raise MissingError(message, hint=hint)
    copies = []
    for wanted in (is_real, ~is_real):
        for row, one in search.sets(wanted):
            of, similarity = search.most_alike(row, one)
            if similarity >= threshold:
                copies.append((row, of, similarity))
            else:
                search.keep(row)
    rows, of_rows, likeness = zip(*sorted(copies), strict=True) if copies else ((), (), ())
    return Copies(np.array(rows, np.int64), np.array(of_rows, np.int64), np.array(likeness), how)


class _Search(Protocol):
    """Kept rows that can be asked for the one most like another."""

    def sets(self, wanted: Flags) -> Iterator[tuple[int, Shingles]]:
        """Of the wanted rows those that may have a copy, with their shingles, in order."""

    def most_alike(self, row: int, one: Shingles) -> tuple[int, float]:
        """The first of the kept rows most like this one, with their similarity; 0 for none."""

    def keep(self, row: int) -> None:
        """Let the row that was asked for last be found from now on."""


class _All:
    """Every row is compared with every kept one."""

    def __init__(self, texts: Texts, common: Shingles) -> None:
        self._sets = [shingles_of(text, common) for text in texts.of(range(len(texts)))]
        self._is_kept = np.zeros(len(texts), bool)
        self._index = Index.of(self._sets or [common])

    def sets(self, wanted: Flags) -> Iterator[tuple[int, Shingles]]:
        for row in np.flatnonzero(wanted).tolist():
            yield row, self._sets[row]

    def most_alike(self, row: int, one: Shingles) -> tuple[int, float]:
        similarities = np.where(self._is_kept, self._index.similarities(one), 0.0)
        first = int(np.argmax(similarities))
        return (first, float(similarities[first])) if similarities[first] else (row, 0.0)

    def keep(self, row: int) -> None:
        self._is_kept[row] = True


class _Sketched:
    """Rows are compared with kept ones whose sketch agrees in a band."""

    def __init__(self, texts: Texts, common: Shingles, threshold: float) -> None:
        self._texts, self._common = texts, common
        every = texts.of(range(len(texts)))
        self._keys = _shared(band_keys(every, common, Bands.of(threshold)))
        self._holders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._kept: dict[int, Shingles] = {}
        self._asked = np.empty(0, np.uint64)

    def sets(self, wanted: Flags) -> Iterator[tuple[int, Shingles]]:
        rows = np.flatnonzero(wanted & self._keys.any(axis=1)).tolist()
        for row, text in zip(rows, self._texts.of(rows), strict=True):
            yield row, shingles_of(text, self._common)

    def most_alike(self, row: int, one: Shingles) -> tuple[int, float]:
        self._asked = one
        candidates = {i for key in self._own(row) for i in self._holders.get(key, ())}
        found = [(i, similarity_of(self._kept[i], one)) for i in candidates]
        return max(found, key=lambda pair: (pair[1], -pair[0]), default=(row, 0.0))

    def keep(self, row: int) -> None:
        self._kept[row] = self._asked
        for key in self._own(row):
            self._holders[key].append(row)

    def _own(self, row: int) -> list[tuple[int, int]]:
        return [(band, key) for band, key in enumerate(self._keys[row].tolist()) if key]


def _shared(keys: BandKeys) -> BandKeys:
    """The keys that several rows have; zero for the others."""
    for band in range(keys.shape[1]):
        _, places, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        keys[counts[places] < 2, band] = 0
    return keys

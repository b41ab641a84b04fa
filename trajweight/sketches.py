"""Rows that may say the same among very many, found without comparing every pair.

A MinHash sketch of a set of shingles is a row of numbers that agrees with another in each place
with a chance equal to the similarity of both sets. Cut into bands, two sketches that agree in a
whole band are candidates. The library rensa makes the sketches, an optional package; whether a
candidate is a near copy is then computed exactly, so no false pair is ever reported, and how many
true ones are missed follows from the cut.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trajweight.duplicates import (
    DEFAULT_THRESHOLD,
    Pair,
    Shingles,
    boilerplate,
    check_threshold,
    shingles_of,
    similarity_of,
)
from trajweight.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Numbers in a sketch.
SKETCH_NUMBERS: Final = 256
#: Most of the pairs as alike as the threshold that may be missed.
MOST_MISSED: Final = 1e-3
_SEED: Final = 20_260_524  # of the sketches; another would miss other pairs
_AT_ONCE: Final = 1024

#: Half the bits of a number, since a table of many rows has dozens for each of them.
BandKeys = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Bands:
    """How a sketch is cut.

    Attributes:
        count: Bands.
        width: Numbers in each.
    """

    count: int
    width: int

    @classmethod
    def of(cls, threshold: float) -> Bands:
        """The widest bands, which give the fewest candidates, that miss few enough pairs."""
        cuts = [cls(SKETCH_NUMBERS // width, width) for width in range(1, 33)]
        return [cut for cut in cuts if cut.missed(threshold) <= MOST_MISSED][-1]

    def missed(self, similarity: float) -> float:
        """The chance that a pair of this similarity agrees in no band: (1 - s**width)**count."""
        return float((1.0 - similarity**self.width) ** self.count)


def is_available() -> bool:
    """Whether the library that makes sketches is installed."""
    return importlib.util.find_spec("rensa") is not None


def told(threshold: float = DEFAULT_THRESHOLD) -> str:
    """What is to be said of a search by sketches: how many pairs it misses."""
    missed = Bands.of(threshold).missed(threshold)
    return (
        "found by MinHash sketches and then compared exactly; of pairs with the least similarity, "
        f"{threshold:g}, about {missed:.2%} are missed, and fewer of the more alike"
    )


def sketched_duplicates(
    left_texts: Sequence[str], right_texts: Sequence[str], *, threshold: float = DEFAULT_THRESHOLD
) -> list[Pair]:
    """What ``duplicates.near_duplicates`` gives, but for the few pairs that are missed.

    Raises:
        ConfigError: If the threshold is not in (0, 1].
        MissingError: If the package rensa is not installed.
    """
    check_threshold(threshold)
    if not left_texts or not right_texts:
        return []
    common = boilerplate(left_texts, right_texts)
    bands = Bands.of(threshold)
    left = [shingles_of(text, common) for text in left_texts]
    holders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for i, keys in enumerate(_cut(left, bands).tolist()):
        for key in enumerate(keys):
            holders[key].append(i)
    pairs = []
    for start in range(0, len(right_texts), _AT_ONCE):
        right = [shingles_of(text, common) for text in right_texts[start : start + _AT_ONCE]]
        for one, (j, keys) in zip(
            right, enumerate(_cut(right, bands).tolist(), start), strict=True
        ):
            candidates = {i for key in enumerate(keys) if key[1] for i in holders.get(key, ())}
            likeness = {i: similarity_of(left[i], one) for i in candidates}
            pairs += [Pair(i, j, found) for i, found in likeness.items() if found >= threshold]
    return sorted(pairs)


def band_keys(texts: Iterable[str], common: Shingles, bands: Bands) -> BandKeys:
    """For each text a number for each of its bands; equal ones make a pair of candidates.

    A text without shingles has zeros, which make none.

    Args:
        texts: One text a row; of so many as there may be only some are held at a time.
        common: Sorted shingles that count for nothing.
        bands: How to cut.

    Returns:
        Shape (n, bands.count).
    """
    parts = [np.empty((0, bands.count), np.uint32)]
    coming = iter(texts)
    while sets := [shingles_of(text, common) for text in islice(coming, _AT_ONCE)]:
        parts.append(_cut(sets, bands))
    return np.concatenate(parts)


def _cut(sets: Sequence[Shingles], bands: Bands) -> BandKeys:
    """The sketches of some sets, each band of them as one number. Shape (n, bands.count)."""
    digests = _digests(sets)[:, : bands.count * bands.width]
    blocks = digests.reshape(len(sets), bands.count, bands.width)
    # Odd factors: equal bands give equal numbers, and unequal ones seldom do; when they do, it
    # costs a comparison and no more.
    factors = np.random.default_rng(_SEED).integers(0, 2**63, bands.width, np.uint64) * 2 + 1
    keys = _mixed((_mixed(blocks) * factors).sum(axis=2)) >> np.uint64(32) | np.uint64(1)
    keys[[not len(one) for one in sets]] = 0
    return keys.astype(np.uint32)


def _digests(sets: Sequence[Shingles]) -> Shingles:
    """A sketch of each set. Shape (n, SKETCH_NUMBERS)."""
    try:
        from rensa import RMinHash
    except ImportError as error:
        message = "near copies among so many rows need the package rensa, which is not installed"
        hint = "Install it: pip install 'trajweight[dedup]'"
        raise MissingError(message, hint=hint) from error
    ends = np.cumsum([0, *map(len, sets)], dtype=np.uint64)
    flat = np.concatenate([np.empty(0, np.uint64), *sets])
    made = RMinHash.digest_matrix_from_flat_token_hashes(
        flat, ends, num_perm=SKETCH_NUMBERS, seed=_SEED
    )
    return np.array(made.to_rows(), dtype=np.uint64).reshape(len(sets), SKETCH_NUMBERS)


def _mixed(numbers: Shingles) -> Shingles:
    """Numbers whose every bit depends on every bit of those given (the finaliser of splitmix)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Shingles = numbers ^ (numbers >> np.uint64(31))
    return mixed

"""Rows that say the same: exact copies by hash, near copies by shared runs of five words.

The search is exact: an index from each run of words to the left rows that hold it gives, for
every right row, the size of its overlap with every left row at once. No pair is missed, and
none is reported that is not a near copy.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trajweight.errors import ConfigError
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SHINGLE_WORDS: Final = 5
DEFAULT_THRESHOLD: Final = 0.8
#: From this many rows on, a shingle in more than half of them is boilerplate.
BOILERPLATE_ROWS: Final = 20

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it loses no bits

Shingles = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two rows that say the same.

    Attributes:
        left: Position on the left side.
        right: Position on the right side.
        similarity: Jaccard similarity of their shingles; 1 for exact copies.
    """

    left: int
    right: int
    similarity: float


def exact_duplicates(left: Sequence[str], right: Sequence[str]) -> list[Pair]:
    """All pairs of equal keys, such as content hashes, in order."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for j, key in enumerate(right):
        places[key].append(j)
    return [Pair(i, j, 1.0) for i, key in enumerate(left) for j in places.get(key, ())]


def near_duplicates(
    left_texts: Iterable[str], right_texts: Iterable[str], *, threshold: float = DEFAULT_THRESHOLD
) -> list[Pair]:
    """All pairs of a left and a right text whose word 5-shingles are alike.

    A text is its set of runs of five words, split at white space, letter case ignored (one
    run of all words where it has fewer). Shingles in more than half of all texts are dropped
    when there are at least 20 texts, so that a system prompt shared by all rows does not make
    them alike; a text with nothing left is like no other.

    Args:
        left_texts: One text a row, see ``comparable_text``. The smaller side is best.
        right_texts: The other side; read once, so it may be a generator.
        threshold: Least Jaccard similarity |a & b| / |a | b|, in (0, 1].

    Returns:
        Every pair at or above the threshold and no other, ordered by position.

    Raises:
        ConfigError: If the threshold is not in (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        msg = f"near-duplicate threshold is {threshold}; it must be above 0 and at most 1"
        raise ConfigError(msg)
    left = [_shingles(text) for text in left_texts]
    right = [_shingles(text) for text in right_texts]
    if not left or not right:
        return []
    common = _boilerplate([*left, *right])
    index = _Index.of([_without(one, common) for one in left])
    pairs = [
        Pair(i, j, similarity)
        for j, one in enumerate(right)
        for i, similarity in index.alike(_without(one, common), threshold)
    ]
    return sorted(pairs)


def comparable_text(messages_json: str) -> str:
    """All a conversation says, as text for ``near_duplicates``: roles, contents and calls.

    Args:
        messages_json: The canonical messages of a table row.
    """
    parts: list[str] = []
    for message in decode(messages_json):
        parts += [f"<{message['role']}>", message.get("reasoning", ""), message["content"]]
        parts += [_call_text(call) for call in message.get("tool_calls", ())]
    return "\n".join(parts)


def _call_text(call: dict[str, Any]) -> str:
    return f"{call['name']} {encode(call['arguments'], sort_keys=True)}"


@dataclass(frozen=True, slots=True)
class _Index:
    """The left sets, turned round: for each shingle the sets that hold it.

    Attributes:
        keys: Every shingle once, sorted. Shape (k,).
        starts: Where the holders of each key begin. Shape (k + 1,).
        holders: Positions of left sets, key by key. Shape (m,).
        sizes: Shingles in each left set. Shape (n_left,).
    """

    keys: Shingles
    starts: NDArray[np.int64]
    holders: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[Shingles]) -> _Index:
        """The index of some sets."""
        sizes = np.array([len(one) for one in sets], np.int64)
        entries = np.concatenate(sets)  # (m,)
        order = np.argsort(entries, kind="stable")
        keys, firsts = np.unique(entries[order], return_index=True)
        holders = np.repeat(np.arange(len(sets)), sizes)[order]
        return cls(keys, np.append(firsts, len(entries)), holders, sizes)

    def alike(self, one: Shingles, threshold: float) -> Iterator[tuple[int, float]]:
        """Left sets whose Jaccard similarity with this one reaches the threshold."""
        at = np.searchsorted(self.keys, one)
        known = at[at < len(self.keys)]
        known = known[self.keys[known] == one[: len(known)]]  # both sorted: the tail is unknown
        counts = self.starts[known + 1] - self.starts[known]
        before = np.cumsum(counts) - counts
        places = np.repeat(self.starts[known] - before, counts) + np.arange(counts.sum())
        overlap = np.bincount(self.holders[places], minlength=len(self.sizes))  # (n_left,)
        similarity = overlap / np.maximum(self.sizes + len(one) - overlap, 1)
        for i in np.flatnonzero(similarity >= threshold).tolist():
            yield i, float(similarity[i])


def _shingles(text: str) -> Shingles:
    """The runs of five words of a text as sorted 64-bit numbers, each once."""
    # Python's hash of a text differs between processes, but only equality matters here, and
    # two unequal runs get one number with a chance of about 1 in 2**64.
    words = np.fromiter(map(hash, text.lower().split()), np.int64).view(np.uint64)
    if not len(words):
        return words
    if len(words) < SHINGLE_WORDS:
        words = np.append(words, np.zeros(SHINGLE_WORDS - len(words), np.uint64))
    n = len(words) - SHINGLE_WORDS + 1
    numbers = words[:n].copy()
    for step in range(1, SHINGLE_WORDS):
        numbers = numbers * _MULTIPLIER + words[step : step + n]
    return np.unique(numbers)


def _boilerplate(sets: Sequence[Shingles]) -> Shingles:
    """Shingles in more than half of the sets, sorted; none when there are few sets."""
    if len(sets) < BOILERPLATE_ROWS:
        return np.empty(0, np.uint64)
    keys, counts = np.unique(np.concatenate(sets), return_counts=True)
    common: Shingles = keys[counts * 2 > len(sets)]
    return common


def _without(one: Shingles, common: Shingles) -> Shingles:
    """A sorted set without the members of another."""
    if not len(common):
        return one
    at = np.minimum(np.searchsorted(common, one), len(common) - 1)
    rest: Shingles = one[common[at] != one]
    return rest

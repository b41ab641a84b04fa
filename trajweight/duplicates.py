"""Rows that say the same: exact copies by hash, near copies by shared runs of five words.

The search is exact: an index from each run of words to the left rows that hold it gives, for
every right row, the size of its overlap with every left row at once. No pair is missed, and
none is reported that is not a near copy. Its time grows with the product of both sides; see
`sketches` for many rows on both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from trajweight.errors import ConfigError
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHINGLE_WORDS: Final = 5
DEFAULT_THRESHOLD: Final = 0.8
#: From this many rows on, a shingle in more than half of them is boilerplate.
BOILERPLATE_ROWS: Final = 20
#: So many rows, evenly spaced, tell what is boilerplate where there are more.
BOILERPLATE_SAMPLE: Final = 2048

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
    left_texts: Sequence[str], right_texts: Sequence[str], *, threshold: float = DEFAULT_THRESHOLD
) -> list[Pair]:
    """All pairs of a left and a right text whose word 5-shingles are alike.

    A text is its set of runs of five words, split at white space, letter case ignored (one
    run of all words where it has fewer). Shingles in more than half of all texts are dropped
    when there are at least 20 texts, so that a system prompt shared by all rows does not make
    them alike; a text with nothing left is like no other.

    Args:
        left_texts: One text a row, see ``comparable_text``. The smaller side is best.
        right_texts: The other side; it is held one text at a time.
        threshold: Least Jaccard similarity |a & b| / |a | b|, in (0, 1].

    Returns:
        Every pair at or above the threshold and no other, ordered by position.

    Raises:
        ConfigError: If the threshold is not in (0, 1].
    """
    check_threshold(threshold)
    if not left_texts or not right_texts:
        return []
    common = boilerplate(left_texts, right_texts)
    index = Index.of([shingles_of(text, common) for text in left_texts])
    pairs = [
        Pair(i, j, similarity)
        for j, text in enumerate(right_texts)
        for i, similarity in index.alike(shingles_of(text, common), threshold)
    ]
    return sorted(pairs)


def check_threshold(threshold: float) -> None:
    """Refuse a likeness that no pair or every pair has.

    Raises:
        ConfigError: If it is not in (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        msg = f"near-duplicate threshold is {threshold}; it must be above 0 and at most 1"
        raise ConfigError(msg)


def shingles_of(text: str, common: Shingles | None = None) -> Shingles:
    """The runs of five words of a text as sorted 64-bit numbers, each once.

    Args:
        text: The text.
        common: Sorted shingles to leave out.
    """
    # Two unequal runs get one number with a chance of about 1 in 2**64.
    words = np.fromiter(
        map(xxh3_64_intdigest, text.lower().encode(errors="surrogatepass").split()), np.uint64
    )
    if not len(words):
        return words
    if len(words) < SHINGLE_WORDS:
        words = np.append(words, np.zeros(SHINGLE_WORDS - len(words), np.uint64))
    n = len(words) - SHINGLE_WORDS + 1
    numbers = words[:n].copy()
    for step in range(1, SHINGLE_WORDS):
        numbers = numbers * _MULTIPLIER + words[step : step + n]
    numbers = np.unique(numbers)
    return numbers if common is None else _without(numbers, common)


def similarity_of(one: Shingles, other: Shingles) -> float:
    """Jaccard similarity of two sorted sets; 0 where both are empty."""
    if not len(one) or not len(other):
        return 0.0
    at = np.minimum(np.searchsorted(other, one), len(other) - 1)
    overlap = int(np.count_nonzero(other[at] == one))
    return overlap / (len(one) + len(other) - overlap)


def boilerplate(left_texts: Sequence[str], right_texts: Sequence[str]) -> Shingles:
    """Shingles that count for nothing between two sides, see ``common_shingles``."""
    n_left = len(left_texts)
    return common_shingles(
        left_texts[place] if place < n_left else right_texts[place - n_left]
        for place in sampled(n_left + len(right_texts))
    )


def common_shingles(texts: Iterable[str]) -> Shingles:
    """Shingles in more than half of the texts, sorted; none when there are few texts."""
    sets = [shingles_of(text) for text in texts]
    if len(sets) < BOILERPLATE_ROWS:
        return np.empty(0, np.uint64)
    keys, counts = np.unique(np.concatenate(sets), return_counts=True)
    common: Shingles = keys[counts * 2 > len(sets)]
    return common


def sampled(n: int) -> list[int]:
    """Which of n rows tell what is boilerplate: all, or of very many some, evenly spaced."""
    places = np.linspace(0, n - 1, min(n, BOILERPLATE_SAMPLE)).astype(np.int64)
    return [int(place) for place in np.unique(places)]


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


class Conversations(Sequence[str]):
    """What rows say, made when it is asked for: all of it at once may be too much to hold."""

    def __init__(self, messages: Sequence[str], rows: Sequence[int] | None = None) -> None:
        """Of some of the rows, or of all.

        Args:
            messages: Canonical messages as JSON text, one entry a row of a table.
            rows: Positions in it; None for all.
        """
        self._messages = messages
        self._rows: Sequence[int] = range(len(messages)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return Conversations(self._messages, self._rows[place])
        return comparable_text(self._messages[self._rows[place]])


def _call_text(call: dict[str, Any]) -> str:
    return f"{call['name']} {encode(call['arguments'], sort_keys=True)}"


@dataclass(frozen=True, slots=True)
class Index:
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
    def of(cls, sets: Sequence[Shingles]) -> Index:
        """The index of some sets."""
        sizes = np.array([len(one) for one in sets], np.int64)
        entries = np.concatenate(sets)  # (m,)
        order = np.argsort(entries, kind="stable")
        keys, firsts = np.unique(entries[order], return_index=True)
        holders = np.repeat(np.arange(len(sets)), sizes)[order]
        return cls(keys, np.append(firsts, len(entries)), holders, sizes)

    def alike(self, one: Shingles, threshold: float) -> Iterator[tuple[int, float]]:
        """Left sets whose Jaccard similarity with this one reaches the threshold."""
        similarity = self.similarities(one)
        for i in np.flatnonzero(similarity >= threshold).tolist():
            yield i, float(similarity[i])

    def similarities(self, one: Shingles) -> NDArray[np.float64]:
        """Jaccard similarity of every left set with this one. Shape (n_left,)."""
        at = np.searchsorted(self.keys, one)
        known = at[at < len(self.keys)]
        known = known[self.keys[known] == one[: len(known)]]  # both sorted: the tail is unknown
        counts = self.starts[known + 1] - self.starts[known]
        before = np.cumsum(counts) - counts
        places = np.repeat(self.starts[known] - before, counts) + np.arange(counts.sum())
        overlap = np.bincount(self.holders[places], minlength=len(self.sizes))
        similarities: NDArray[np.float64]
        similarities = overlap / np.maximum(self.sizes + len(one) - overlap, 1)
        return similarities


def _without(one: Shingles, common: Shingles) -> Shingles:
    """A sorted set without the members of another."""
    if not len(common):
        return one
    at = np.minimum(np.searchsorted(common, one), len(common) - 1)
    rest: Shingles = one[common[at] != one]
    return rest

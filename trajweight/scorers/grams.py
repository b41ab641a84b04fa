"""Words and pairs of words of many texts, as numbers: counted once, quickly, and by names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.scorers.texts import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """Every word and every pair of neighbouring words of some texts.

    Which number stands for which gram hangs on the texts alone, not on their order.

    Attributes:
        words: The different words, by the alphabet; a word's number is its place.
        pairs: The different pairs: the first word's number times the number of words, plus the
            second's. A pair's number is its place here plus the number of words.
        rows: Of every gram of every text, the text it stands in. Shape (m,).
        kinds: And its number. Shape (m,).
        n_texts: How many texts there are.
    """

    words: list[str]
    pairs: Ints
    rows: Ints
    kinds: Ints
    n_texts: int

    @property
    def n_kinds(self) -> int:
        """How many different grams there are."""
        return len(self.words) + len(self.pairs)

    def names(self) -> Iterator[str]:
        """The grams by their numbers; the words of a pair stand with a space between."""
        yield from self.words
        for pair in self.pairs.tolist():
            first, second = divmod(pair, len(self.words))
            yield f"{self.words[first]} {self.words[second]}"


def grams_of(texts: Sequence[str], *, with_pairs: bool) -> Grams:
    """The words, and where they are asked for the pairs, of texts; see `texts.words_of`.

    Example:
        >>> found = grams_of(["go north", "north"], with_pairs=True)
        >>> list(found.names()), found.rows.tolist(), found.kinds.tolist()
        (['go', 'north', 'go north'], [0, 0, 1, 0], [0, 1, 1, 2])
    """
    met: dict[str, int] = {}
    numbers: list[int] = []
    lengths = []
    for text in texts:
        words = words_of(text)
        numbers += [met.setdefault(word, len(met)) for word in words]
        lengths.append(len(words))
    names = sorted(met)
    place = np.zeros(len(met), dtype=np.int64)
    place[[met[name] for name in names]] = np.arange(len(met))
    kinds = place[np.array(numbers, dtype=np.int64)]  # (all words,)
    rows = np.repeat(np.arange(len(texts)), lengths)
    if not with_pairs:
        return Grams(names, np.zeros(0, dtype=np.int64), rows, kinds, len(texts))

    is_joined = rows[1:] == rows[:-1]
    every = kinds[:-1][is_joined] * len(names) + kinds[1:][is_joined]
    pairs, pair_kinds = np.unique(every, return_inverse=True)
    return Grams(
        names,
        pairs,
        np.concatenate([rows, rows[1:][is_joined]]),
        np.concatenate([kinds, len(names) + pair_kinds]),
        len(texts),
    )

"""How far the words of the weighted synthetic rows lie from those of the real ones.

Every row is its own distribution of words and pairs of words; a set of rows is the mixture of
them by weight, so a long row counts no more than a short one. Two sets are compared by their
Jensen-Shannon divergence: 0 for equal mixtures, 1 bit where they share no word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.analysis.chance import PERMUTATIONS, Comparison, compare, share_columns, subsample
from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Beyond this many rows a side is subsampled.
MAX_ROWS: Final = 1_000
#: Characters of a text that are read.
MAX_CHARACTERS: Final = 20_000
#: Characters of scripts that write no spaces stand alone.
_LONE: Final = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD: Final = re.compile(rf"[{_LONE}]|[^\W{_LONE}]+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class TextDivergence(Facts):
    """Jensen-Shannon divergences of synthetic from real rows, in bits, 0 to 1.

    Few effective rows hold few words, which raises all of them, so they are to be read against
    their bands and not against zero.

    Attributes:
        words: Of single words; a sign of punctuation is a word too.
        pairs: Of two words that follow each other.
        together: Of both in one bag, half of the mass each: the mean of the two.
        n_synthetic: Synthetic rows used: those with two words at least.
        n_real: Real rows used.
        n_words: Different words.
        n_pairs: Different pairs.
        n_cut: Rows of which only the first characters were read.
        max_characters: How many these are.
    """

    words: Comparison
    pairs: Comparison
    together: Comparison
    n_synthetic: int
    n_real: int
    n_words: int
    n_pairs: int
    n_cut: int
    max_characters: int


def text_divergence(
    synthetic: Sequence[str] | pl.Series,
    weights: Floats,
    real: Sequence[str] | pl.Series,
    *,
    read: Callable[[str], str] = str,
    groups: Ints | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    max_rows: int = MAX_ROWS,
    max_characters: int = MAX_CHARACTERS,
) -> TextDivergence | None:
    """How far the words of the synthetic rows lie from those of the real ones.

    Args:
        synthetic: One text a row.
        weights: Of the synthetic rows. Shape (n,).
        real: One text a row.
        read: What to do with a text before its words are counted, such as `spoken`; done for the
            rows of the subsample alone.
        groups: See `chance.share_columns`.
        seed: Of the subsample and the deals.
        permutations: Deals.
        max_rows: Rows of either side beyond which a subsample is drawn.
        max_characters: Characters of a text that are read.

    Returns:
        None where there is nothing to compare: no row with two words on a side, or none of the
        synthetic ones weighs anything.

    Reference:
        Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37, 1991.
    """
    kept = subsample(len(synthetic), max_rows, seed=seed)
    kept_real = subsample(len(real), max_rows, seed=seed)
    texts = [read(synthetic[row]) for row in kept.tolist()]
    texts += [read(real[row]) for row in kept_real.tolist()]
    bags = Bags.of(words_of(text[:max_characters]) for text in texts)
    full = np.flatnonzero(bags.lengths >= 2)
    rows, rows_real = full[full < len(kept)], full[full >= len(kept)]
    if not len(rows) or not len(rows_real) or not weights[kept[rows]].sum() > 0:
        return None
    shares = share_columns(
        weights[kept[rows]],
        permutations=permutations,
        seed=seed,
        groups=None if groups is None else groups[kept[rows]],
    )
    words, pairs = (
        _divergences(counts, rows, shares, rows_real) for counts in (bags.words, bags.pairs)
    )
    return TextDivergence(
        words=compare(words),
        pairs=compare(pairs),
        together=compare((words + pairs) / 2.0),
        n_synthetic=len(rows),
        n_real=len(rows_real),
        n_words=bags.words.n_kinds,
        n_pairs=bags.pairs.n_kinds,
        n_cut=sum(len(text) > max_characters for text in texts),
        max_characters=max_characters,
    )


def words_of(text: str) -> list[str]:
    """The words and signs of a text, letter case ignored.

    Example:
        >>> words_of("Go north, then \u5317\u3078!")
        ['go', 'north', ',', 'then', '\u5317', '\u3078', '!']
    """
    return _WORD.findall(text.lower())


def spoken(messages_json: str) -> str:
    """All that is said in a row's canonical messages: contents, then calls with their arguments."""
    parts: list[str] = []
    for message in json.loads(messages_json):
        content = message.get("content")
        if isinstance(content, list):
            parts += [str(each.get("text", "")) for each in content if isinstance(each, dict)]
        elif content:
            parts.append(str(content))
        parts += [_called(call) for call in message.get("tool_calls") or ()]
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Counts:
    """What share of its row each kind is.

    Attributes:
        row: The row of each entry. Shape (e,).
        kind: Its kind, from 0 on. Shape (e,).
        share: The share. Shape (e,).
        n_kinds: Different kinds.
    """

    row: Ints
    kind: Ints
    share: Floats
    n_kinds: int

    @classmethod
    def of(cls, row: Ints, kind: Ints) -> Counts:
        """Count what stands in each row: one entry an occurrence, (o,) each."""
        kinds, kind = np.unique(kind, return_inverse=True)
        width = max(len(kinds), 1)
        cells, counts = np.unique(row * width + kind, return_counts=True)
        row, kind = cells // width, cells % width
        sizes = np.bincount(row, weights=counts)
        return cls(row, kind, counts / sizes[row], len(kinds))

    def mixture(self, mass: Floats) -> Floats:
        """The distribution over kinds of the rows by their mass: (rows,) to (kinds,)."""
        shares = self.share * mass[self.row]
        found = np.bincount(self.kind, weights=shares, minlength=self.n_kinds)
        return np.asarray(found, dtype=np.float64)

    def among(self, rows: NDArray[np.bool_]) -> Counts:
        """The entries of some rows; kinds keep their numbers."""
        kept = rows[self.row]
        return Counts(self.row[kept], self.kind[kept], self.share[kept], self.n_kinds)


@dataclass(frozen=True, slots=True)
class Bags:
    """The words of many texts, and the pairs of words that follow each other.

    Attributes:
        words: Counts of words.
        pairs: Counts of pairs.
        lengths: Words of each text. Shape (texts,).
    """

    words: Counts
    pairs: Counts
    lengths: Ints

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> Bags:
        """Count the words of texts, each a list of words."""
        number: dict[str, int] = {}
        said = [
            np.array([number.setdefault(word, len(number)) for word in text], dtype=np.int64)
            for text in texts
        ]
        lengths = np.array([len(text) for text in said], dtype=np.int64)
        words = np.concatenate([np.empty(0, np.int64), *said])
        row = np.repeat(np.arange(len(said)), lengths)
        inside = row[1:] == row[:-1]  # a pair never spans two texts
        pairs = (words[:-1] * max(len(number), 1) + words[1:])[inside]
        return cls(Counts.of(row, words), Counts.of(row[1:][inside], pairs), lengths)


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence of two distributions, in bits.

    Example:
        >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
        1.0
    """
    return _entropy((p + q) / 2.0) - (_entropy(p) + _entropy(q)) / 2.0


def _divergences(counts: Counts, rows: Ints, shares: Floats, rows_real: Ints) -> Floats:
    """The divergence of every column of shares of the rows from the real ones: (k,)."""
    mass = np.zeros(int(max(rows.max(), rows_real.max())) + 1)
    is_used = np.zeros(max(len(mass), int(counts.row.max(initial=0)) + 1), dtype=bool)
    is_used[rows_real] = True
    mass[rows_real] = 1.0 / len(rows_real)
    real = counts.among(is_used).mixture(mass)
    is_used[rows_real], is_used[rows] = False, True
    synthetic = counts.among(is_used)
    found = np.empty(shares.shape[1])
    for column in range(shares.shape[1]):
        mass[rows] = shares[:, column]
        found[column] = jensen_shannon(synthetic.mixture(mass), real)
    return found


def _entropy(p: Floats) -> float:
    """-sum p log2 p, where p is above zero."""
    return -float(p @ np.log2(np.where(p > 0, p, 1.0)))


def _called(call: dict[str, Any]) -> str:
    """A tool call as text."""
    function = call.get("function", call)
    arguments = function.get("arguments", "")
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{function.get('name', '')} {told}"

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from trajweight.analysis.text_divergence import (
    Bags,
    jensen_shannon,
    spoken,
    text_divergence,
    words_of,
)

NOUNS = ("door", "key", "lamp", "map", "rope")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(9)


def texts(rng, n, *, verbs=("go", "take", "look"), length=12) -> list[str]:
    return [
        " ".join(f"{rng.choice(verbs)} {rng.choice(NOUNS)}" for _ in range(rng.integers(1, length)))
        for _ in range(n)
    ]


def slow_mixture(rows, weights, *, n) -> Counter:
    """Every row its own distribution, added up by weight with dictionaries."""
    total = sum(weights)
    mixture: Counter = Counter()
    for row, weight in zip(rows, weights, strict=True):
        grams = words_of(row) if n == 1 else list(pairwise(words_of(row)))
        for gram in grams:
            mixture[gram] += weight / total / len(grams)
    return mixture


def slow_divergence(left, right) -> float:
    """The definition, gram by gram."""
    found = 0.0
    for gram in {*left, *right}:
        p, q = left[gram], right[gram]
        found += 0.5 * sum(s * math.log2(2 * s / (p + q)) for s in (p, q) if s > 0)
    return found


def test_divergences_are_those_of_dictionaries(rng) -> None:
    synthetic, real = texts(rng, 25), texts(rng, 15, verbs=("go", "drop"))
    weights = rng.exponential(size=25)

    found = text_divergence(synthetic, weights, real, permutations=19)

    for n, measure in ((1, found.words), (2, found.pairs)):
        target = slow_mixture(real, [1.0] * 15, n=n)
        before = slow_divergence(slow_mixture(synthetic, [1.0] * 25, n=n), target)
        after = slow_divergence(slow_mixture(synthetic, weights, n=n), target)
        assert measure.before == pytest.approx(before, abs=1e-10)
        assert measure.after == pytest.approx(after, abs=1e-10)


def test_one_divergence_is_that_of_scipy(rng) -> None:
    for _ in range(20):
        p, q = rng.exponential(size=(2, 30)) * (rng.uniform(size=(2, 30)) < 0.6)
        p, q = p / p.sum(), q / q.sum()

        assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-12)


def test_words_and_pairs_in_one_bag_diverge_by_their_mean(rng) -> None:
    """Half of the mass on words, half on pairs, which are never the same kind."""
    synthetic, real = texts(rng, 12), texts(rng, 9, verbs=("drop", "go"))
    weights = rng.exponential(size=12)

    found = text_divergence(synthetic, weights, real, permutations=19)

    bags = []
    for rows, masses in ((synthetic, weights), (real, np.ones(9))):
        both = slow_mixture(rows, masses, n=1) + slow_mixture(rows, masses, n=2)
        bags.append(Counter({gram: share / 2 for gram, share in both.items()}))
    assert found.together.after == pytest.approx(slow_divergence(*bags), abs=1e-10)
    middle = (found.words.after + found.pairs.after) / 2
    assert found.together.after == pytest.approx(middle, abs=1e-12)


def test_whole_weights_are_repeated_texts(rng) -> None:
    synthetic, real, times = texts(rng, 10), texts(rng, 10), [0, 1, 2, 3, 1, 0, 4, 1, 1, 2]
    repeated = [text for text, n in zip(synthetic, times, strict=True) for _ in range(n)]

    weighted = text_divergence(synthetic, np.array(times, float), real, permutations=19)
    plain = text_divergence(repeated, np.ones(len(repeated)), real, permutations=19)

    assert weighted.pairs.after == pytest.approx(plain.pairs.before, abs=1e-12)


def test_equal_texts_diverge_by_nothing_and_strange_ones_by_one_bit() -> None:
    same = text_divergence(["a b c"] * 3, np.ones(3), ["A  B\nC"], permutations=19)
    strange = text_divergence(["a b c"] * 3, np.ones(3), ["d e f"], permutations=19)

    assert same.together.before == pytest.approx(0.0, abs=1e-12)
    assert strange.words.before == strange.pairs.before == pytest.approx(1.0)
    assert (strange.n_words, strange.n_pairs) == (6, 4)


def test_a_long_row_counts_no_more_than_a_short_one() -> None:
    rows = ["go north " * 50, "take key"]

    short = text_divergence(["go north", "take key"], np.ones(2), ["go north"], permutations=19)
    long = text_divergence(rows, np.ones(2), ["go north"], permutations=19)

    assert long.words.before == pytest.approx(short.words.before)


def test_weights_that_select_the_real_words_bring_the_texts_nearer(rng) -> None:
    synthetic = texts(rng, 40) + texts(rng, 40, verbs=("drop", "burn"))
    weights = np.repeat([1.9, 0.1], 40)

    found = text_divergence(synthetic, weights, texts(rng, 30))

    assert found.words.after < 0.5 * found.words.before
    assert {each.verdict for each in (found.words, found.pairs, found.together)} == {"nearer"}
    assert json.loads(json.dumps(found.as_dict()))["n_real"] == 30


def test_few_effective_rows_raise_the_band_and_not_the_verdict(rng) -> None:
    """Uneven weights that mean nothing raise the divergence itself, and dealt ones as much."""
    weights = rng.exponential(size=100) ** 3

    found = text_divergence(texts(rng, 100), weights, texts(rng, 30), permutations=99)

    assert found.pairs.after > found.pairs.before
    assert found.pairs.null_low <= found.pairs.after <= found.pairs.null_high


def test_pairs_never_span_two_texts() -> None:
    bags = Bags.of([["a", "b"], ["c"], [], ["d", "e", "a"]])

    assert bags.pairs.n_kinds == 3
    assert bags.pairs.row.tolist() == [0, 3, 3]
    assert bags.lengths.tolist() == [2, 1, 0, 3]


def test_rows_with_less_than_two_words_do_not_count(rng) -> None:
    synthetic, weights = [*texts(rng, 8), "", "word"], np.ones(10)

    found = text_divergence(synthetic, weights, ["go", *texts(rng, 5)], permutations=19)

    assert (found.n_synthetic, found.n_real) == (8, 5)
    assert text_divergence(["word"], np.ones(1), ["go north"]) is None
    assert text_divergence(["go north", ""], np.array([0.0, 1.0]), ["go north"]) is None


def test_long_texts_are_cut_many_rows_subsampled_and_the_result_says_so(rng) -> None:
    synthetic, real = [*texts(rng, 60), *["go north " * 100] * 5], texts(rng, 50)

    cut = text_divergence(synthetic, np.ones(65), real, max_characters=300, permutations=19)
    once, again, other = (
        text_divergence(synthetic, np.ones(65), real, max_rows=20, seed=seed, permutations=19)
        for seed in (1, 1, 2)
    )

    assert (cut.n_cut, cut.max_characters) == (5, 300)
    assert (once.n_synthetic, once.n_real) == (20, 20)
    assert once == again != other


def test_what_stands_behind_the_cut_is_not_read() -> None:
    rows = ["go north " * 50 + "burn it all"] * 3

    found = text_divergence(rows, np.ones(3), ["go north"], max_characters=90, permutations=19)

    assert found.words.before == pytest.approx(0.0, abs=1e-12)
    assert (found.n_words, found.n_cut) == (2, 3)


def test_only_the_rows_of_the_subsample_are_read(rng) -> None:
    seen = []

    def read(text: str) -> str:
        seen.append(text)
        return text

    text_divergence(
        texts(rng, 500), np.ones(500), texts(rng, 9), read=read, max_rows=30, permutations=19
    )

    assert len(seen) == 39


def test_words_are_words_in_any_script() -> None:
    assert words_of("Où est-il? naïve_x 3.5") == [
        *("où", "est", "-", "il", "?", "naïve_x", "3", ".", "5"),
    ]
    assert words_of("走 north东西go") == ["走", "north", "东", "西", "go"]


def test_all_that_is_said_is_read_with_calls_and_their_arguments() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "find it"}, "?"]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"name": "search", "arguments": {"q": "ä"}},
            {"function": {"name": "open", "arguments": "{}"}},
        ]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": None},
    ]  # fmt: skip

    assert spoken(json.dumps(messages)) == 'find it\nsearch {"q": "ä"}\nopen {}\nfound'

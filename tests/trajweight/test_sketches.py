"""Laws of sketches: no false pair, few missed ones, and the share that is missed as it is said."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from tests.trajweight.test_duplicates import slow_near_duplicates
from trajweight.duplicates import near_duplicates
from trajweight.errors import ConfigError, MissingError
from trajweight.sketches import MOST_MISSED, Bands, band_keys, sketched_duplicates, told

NOTHING = np.empty(0, np.uint64)


def families(n: int, *, seed: int, words: int = 60) -> list[str]:
    """Texts of which every other one is the one before with some words changed."""
    generator = random.Random(seed)
    texts: list[list[str]] = []
    for number in range(n):
        if number % 2:
            text = list(texts[-1])
            for place in generator.sample(range(words), generator.randrange(4)):
                text[place] = f"new{number}-{place}"
        else:
            text = [f"w{generator.randrange(5000)}" for _ in range(words)]
        texts.append(text)
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_pairs_are_those_of_the_search_that_compares_all(threshold):
    texts = families(600, seed=1)
    left, right = texts[::2], texts[1::2]

    found = sketched_duplicates(left, right, threshold=threshold)

    assert found == near_duplicates(left, right, threshold=threshold)
    assert found


def test_pairs_are_those_of_the_slow_twin():
    texts = [*families(40, seed=2), "", "a b", "a b", "A  b"]

    found = sketched_duplicates(texts, texts, threshold=0.6)

    assert found == slow_near_duplicates(texts, texts, 0.6)


def test_texts_that_say_nothing_are_like_no_other():
    assert sketched_duplicates(["", " "], [" ", ""]) == []
    assert not band_keys(["", " "], NOTHING, Bands.of(0.8)).any()


def test_sides_without_rows_have_no_pairs():
    assert sketched_duplicates([], ["a"]) == sketched_duplicates(["a"], []) == []


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8])
def test_the_share_of_missed_pairs_is_the_one_that_is_computed(similarity):
    generator = np.random.default_rng(3)
    bands = Bands(16, 8)
    # two sets of n share o of their members: o / (2 n - o) is their similarity
    n, n_pairs = 100, 4000
    shared = round(2 * n * similarity / (1 + similarity))
    texts = []
    for _ in range(n_pairs):
        # words apart by five empties: each shingle has one word of its own
        words = [f"{word:x}" for word in generator.integers(0, 2**60, 2 * n - shared)]
        texts += [" ".join(words[:n]), " ".join(words[n - shared :])]
    keys = band_keys(texts, NOTHING, bands)

    missed = float(np.mean(~(keys[::2] == keys[1::2]).any(axis=1)))

    true = (shared - 4) / (2 * (n - 4) - (shared - 4))  # runs of five words
    expected = bands.missed(true)
    noise = 4 * (expected * (1 - expected) / n_pairs) ** 0.5
    # the library's sketches vary less than those of the formula, so they miss rather fewer
    assert expected * 0.6 - noise < missed < expected + noise


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_the_cut_misses_few_and_a_wider_one_would_miss_more(threshold):
    bands = Bands.of(threshold)

    wider = Bands(256 // (bands.width + 1), bands.width + 1)
    assert bands.missed(threshold) <= MOST_MISSED
    assert bands.count * bands.width <= 256
    assert wider.missed(threshold) > MOST_MISSED or bands.width == 32


def test_the_share_that_is_missed_is_told():
    assert Bands.of(0.8) == Bands(36, 7)
    assert told(0.8) == (
        "found by MinHash sketches and then compared exactly; of pairs with the least similarity, "
        "0.8, about 0.02% are missed, and fewer of the more alike"
    )


def test_keys_are_the_same_in_every_process():
    # so that a run can be told again; Python's own hash of a text differs from run to run
    program = (
        "import numpy as np; from trajweight.sketches import Bands, band_keys\n"
        "print(band_keys(['the quick brown fox jumps'], np.empty(0, np.uint64), Bands(9, 4)))"
    )

    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1


def test_the_missing_library_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)

    with pytest.raises(MissingError, match="rensa") as caught:
        sketched_duplicates(["a"], ["a"])

    assert "pip install 'trajweight[dedup]'" in caught.value.hint


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="threshold"):
        sketched_duplicates(["a"], ["a"], threshold=0.0)

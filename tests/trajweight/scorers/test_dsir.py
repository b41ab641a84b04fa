"""DSIR against the formula of its authors' code, counted word by word."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trajweight.scorers.pools import pool_of, say, varied_pool
from trajweight.errors import ConfigError
from trajweight.jsontext import decode
from trajweight.scorers import scorer
from trajweight.scorers.dsir import Dsir

texts = st.lists(
    st.text(alphabet="aAbB [].\n", max_size=20).filter(lambda text: text.strip()),
    min_size=1,
    max_size=6,
)


def bucket(gram: str, n: int) -> int:
    return int(hashlib.sha256(gram.encode("utf-8")).hexdigest(), 16) % n


def counts(text: str, n: int) -> Counter[int]:
    """Hashed words, then hashed pairs, as in the authors' code (with nltk's WordPunct pattern)."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    found = Counter(bucket(word, n) for word in words)
    for first, second in pairwise(words):
        found[bucket(first + " " + second, n)] += 1
    return found


def log_ratios(synthetic: list[str], real: list[str], n: int) -> list[float]:
    sides = []
    for side in (real, synthetic):
        whole = sum((counts(text, n) for text in side), Counter())
        sides.append([whole[j] / whole.total() for j in range(n)])
    gain = [math.log(p + 1e-8) - math.log(q + 1e-8) for p, q in zip(*sides, strict=True)]
    return [sum(often * gain[j] for j, often in counts(text, n).items()) for text in synthetic]


@given(synthetic=texts, real=texts, n=st.sampled_from([3, 50]))
def test_scores_are_the_log_ratios_of_the_authors(synthetic, real, n) -> None:
    found = Dsir(n_buckets=n, reads="assistant").score(pool_of(synthetic, real))

    assert found.scores == pytest.approx(log_ratios(synthetic, real, n), rel=1e-9, abs=1e-9)


def test_all_turns_are_read_as_one_text_with_ten_thousand_buckets() -> None:
    pool = varied_pool()
    synthetic, real = (
        ["\n".join(turn["content"] for turn in decode(chat)) for chat in rows["messages_json"]]
        for rows in (pool.synthetic, pool.real)
    )

    found = scorer("dsir").score(pool)

    assert found.scores == pytest.approx(log_ratios(synthetic, real, 10_000), rel=1e-9)


def test_weights_are_the_ratios() -> None:
    found = scorer("dsir").score(pool_of(["a b", "b b a", "a"], ["a b", "b a"]))

    assert found.weights is not None
    assert np.log(found.weights) == pytest.approx(found.scores - found.scores.max(), abs=1e-9)


def test_rows_in_the_words_of_the_real_ones_come_first() -> None:
    found = scorer("dsir").score(pool_of(["go north", "la la", "go home"], ["go north", "go home"]))

    assert min(found.scores[0], found.scores[2]) > found.scores[1]


@pytest.mark.parametrize(("synthetic", "real"), [([""], ["go"]), (["go"], [""])])
def test_a_side_without_words_is_refused_and_named(synthetic, real) -> None:
    side = "synthetic" if real[0] else "real"
    chats = ([say(text, ask="") for text in texts] for texts in (synthetic, real))

    with pytest.raises(ConfigError, match=f"not one word in the {side} trajectories"):
        scorer("dsir").score(pool_of(*chats))

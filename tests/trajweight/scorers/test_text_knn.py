"""Nearest real rows, judged by scikit-learn's TF-IDF and cosines of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from tests.trajweight.scorers.pools import pool_of, varied_pool
from trajweight.scorers import scorer, text_knn
from trajweight.scorers.text_knn import TextNeighbours
from trajweight.scorers.texts import texts_of


@pytest.mark.parametrize("k", [1, 5, 100])
def test_scores_are_mean_cosines_with_the_nearest_of_all_pairs(k) -> None:
    pool = varied_pool()

    found = TextNeighbours(k=k).score(pool)

    synthetic, real = (texts_of(rows, "assistant") for rows in (pool.synthetic, pool.real))
    theirs = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]+", sublinear_tf=True)
    theirs.fit([*synthetic, *real])
    every = cosine_similarity(theirs.transform(synthetic), theirs.transform(real))
    expected = [np.mean(sorted(cosines, reverse=True)[:k]) for cosines in every]
    assert found.scores == pytest.approx(expected, abs=1e-12)


def test_rows_that_are_compared_a_few_at_a_time_get_the_same_scores(monkeypatch) -> None:
    whole = scorer("text-knn").score(varied_pool())
    monkeypatch.setattr(text_knn, "_CELLS", 36)  # four rows at a time

    parts = scorer("text-knn").score(varied_pool())

    assert parts.scores.tolist() == whole.scores.tolist()


def test_a_copy_of_a_real_row_is_one_and_a_stranger_zero() -> None:
    found = TextNeighbours(k=1).score(pool_of(["go north", "la la", ""], ["go north", "stay"]))

    assert found.scores == pytest.approx([1.0, 0.0, 0.0], abs=1e-12)


def test_rows_in_which_nobody_says_a_word_are_all_alike() -> None:
    assert scorer("text-knn").score(pool_of(["", " "], [""])).scores.tolist() == [0.0, 0.0]

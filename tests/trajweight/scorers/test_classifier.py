"""Real or synthetic, judged by scikit-learn's TF-IDF and logistic regression, fold by fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tests.trajweight.scorers.pools import pool_of, varied_pool
from trajweight.errors import ConfigError
from trajweight.scorers import scorer
from trajweight.scorers.classifier import Classifier, folds_of
from trajweight.scorers.grams import grams_of
from trajweight.scorers.texts import texts_of
from trajweight.scorers.tfidf import tf_idf

some_texts = st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=20).filter(
    lambda texts: len(set(texts)) >= 2
)
PATTERN = r"\w+|[^\w\s]+"


@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("penalty", [0.2, 1.0])
def test_scores_are_the_log_odds_of_classifiers_that_saw_the_other_folds(n_folds, penalty) -> None:
    pool = varied_pool(seed=4)

    found = Classifier(n_folds=n_folds, penalty=penalty).score(pool)

    real, synthetic = (texts_of(rows, "assistant") for rows in (pool.real, pool.synthetic))
    theirs = TfidfVectorizer(token_pattern=PATTERN, ngram_range=(1, 2), sublinear_tf=True)
    x = theirs.fit_transform([*real, *synthetic])
    y = np.array([1] * len(real) + [0] * len(synthetic))
    folds = np.concatenate(folds_of(real, synthetic, n_folds=n_folds, seed=4))
    expected = np.zeros(len(y))
    for fold in range(n_folds):
        model = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-10)
        model.fit(x[folds != fold], y[folds != fold])
        expected[folds == fold] = model.decision_function(x[folds == fold])
    # both searches stop short of the least: ours at a gradient of 1e-6
    assert found.scores == pytest.approx(expected[len(real) :], abs=1e-5)
    assert found.weights is not None
    assert np.log(found.weights) == pytest.approx(found.scores - found.scores.max(), abs=1e-9)


def test_the_most_frequent_terms_alone_are_looked_at() -> None:
    chats = ["go go up", "go down", "up up go", "down", "stay"]

    found = tf_idf(grams_of(chats, with_pairs=True), n_terms=3)

    theirs = TfidfVectorizer(
        token_pattern=PATTERN, vocabulary=["down", "go", "up"], sublinear_tf=True
    )
    assert found.toarray() == pytest.approx(theirs.fit_transform(chats).toarray(), abs=1e-12)


@given(real=some_texts, synthetic=some_texts, seed=st.integers(0, 3), data=st.data())
def test_copies_share_a_fold_and_every_fold_has_some_of_each_side(
    real, synthetic, seed, data
) -> None:
    n_folds = data.draw(st.integers(2, min(len(set(real)), len(set(synthetic)))))

    ours, theirs = folds_of(real, synthetic, n_folds=n_folds, seed=seed)

    assert set(ours) == set(theirs) == set(range(n_folds))
    pairs = set(zip([*real, *synthetic], [*ours.tolist(), *theirs.tolist()], strict=True))
    assert len(pairs) == len({text for text, _ in pairs})


def test_rows_in_the_words_of_the_real_ones_come_first() -> None:
    real = [f"go {place}" for place in range(6)]
    synthetic = [f"la la {place}" for place in range(6)] + ["go north", "go home"]

    found = scorer("classifier").score(pool_of(synthetic, real))

    assert found.scores[6:].min() > found.scores[:6].max()


@pytest.mark.parametrize(
    ("synthetic", "real", "there"),
    [(["a", "a"], ["b", "c"], "2 and 1"), (["a", "b"], ["c"], "1 and 2")],
)
def test_a_side_of_one_text_only_is_refused_in_words(synthetic, real, there) -> None:
    with pytest.raises(ConfigError, match=f"two different real .* there are {there}"):
        scorer("classifier").score(pool_of(synthetic, real))

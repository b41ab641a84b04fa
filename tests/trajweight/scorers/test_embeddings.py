from __future__ import annotations

import numpy as np
import pytest

from tests.trajweight.scorers.grounds import pool_on, shared_ground
from tests.trajweight.scorers.plain_model import mean_state
from trajweight.scorers.classifier import folds_of
from trajweight.scorers.embedding_classifier import EmbeddingClassifier, whitened
from trajweight.scorers.embedding_knn import EmbeddingNeighbours
from trajweight.tiny import build_tiny


def plain_states() -> tuple[np.ndarray, np.ndarray]:
    """Of synthetic rows, and of real training and validation rows."""
    model, _ = build_tiny()
    material = shared_ground().material

    def states(rows: list[int]) -> np.ndarray:
        encoded = [material.encoded[row] for row in rows]
        found = [mean_state(model, each.input_ids, each.assistant_mask) for each in encoded]
        return np.stack([each.numpy() for each in found])

    return states(material.synthetic), states([*material.real, *material.validation])


@pytest.mark.parametrize("is_standardised", [True, False])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_the_score_is_the_mean_cosine_with_the_nearest_real_rows(k, is_standardised) -> None:
    synthetic, real = plain_states()
    if is_standardised:
        every = np.concatenate([synthetic, real])
        synthetic, real = (
            (side - every.mean(axis=0)) / every.std(axis=0) for side in (synthetic, real)
        )

    found = EmbeddingNeighbours(k=k, standardised=is_standardised).score(pool_on(shared_ground()))

    expected = []
    for row in synthetic:
        cosines = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in real]
        expected.append(np.mean(sorted(cosines, reverse=True)[:k]))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-4)


def test_odds_are_those_of_scikit_learn_on_whitened_states_of_the_other_folds() -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    ground = shared_ground()
    material = ground.material
    synthetic, real = plain_states()
    states = np.concatenate([real, synthetic])
    texts = [str(each.input_ids) for each in material.encoded]
    n = len(real)
    folds = np.concatenate(folds_of(texts[:n], texts[n:], n_folds=4, seed=2))

    found = EmbeddingClassifier(n_folds=4, components=6).score(pool_on(ground, seed=2))

    white = PCA(6, whiten=True).fit_transform(states) * np.sqrt(len(states) / (len(states) - 1))
    expected = np.zeros(len(states))
    for fold in range(4):
        others = folds != fold
        judge = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=1000)
        judge.fit(white[others], np.arange(len(states))[others] < n)
        expected[~others] = judge.decision_function(white[~others])
    np.testing.assert_allclose(found.scores, expected[n:], rtol=1e-2, atol=2e-3)
    assert found.weights is not None
    ratios = found.weights / found.weights[0]
    np.testing.assert_allclose(ratios, np.exp(found.scores - found.scores[0]), rtol=1e-9)


def test_whitened_rows_are_uncorrelated_and_no_direction_is_made_of_rounding() -> None:
    drawn = np.random.default_rng(0)
    rows = drawn.normal(size=(50, 3)) @ drawn.normal(size=(3, 8)) + 5  # three directions in eight

    found = whitened(rows, components=6)

    assert found.shape == (50, 3)
    np.testing.assert_allclose(found.T @ found / 50, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)

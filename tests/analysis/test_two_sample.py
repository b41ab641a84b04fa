from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from trajweight.analysis import two_sample as module
from trajweight.analysis.chance import share_columns
from trajweight.analysis.two_sample import (
    COMPONENTS,
    RIDGE,
    fit_logistic,
    principal_components,
    task_folds,
    two_sample,
    weighted_auc,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def sklearn_fit(rows, masses, labels, ridge) -> LogisticRegression:
    """The same minimum by another library: C multiplies the summed losses, masses sum to one."""
    model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000)
    return model.fit(rows, labels, sample_weight=masses)


@pytest.mark.parametrize("ridge", [1e-4, 0.01, 1.0])
def test_all_columns_are_the_weighted_logistic_regressions_of_sklearn(rng, ridge) -> None:
    rows, labels = rng.normal(size=(80, 4)), rng.uniform(size=80) < 0.3
    rows[labels] += [1.0, -0.5, 0.0, 3.0]
    masses = rng.exponential(size=(80, 5)) ** 2
    masses /= masses.sum(axis=0)

    found = fit_logistic(rows, masses, labels, ridge=ridge)

    for column in range(5):
        model = sklearn_fit(rows, masses[:, column], labels, ridge)
        wanted = np.concatenate([model.intercept_, model.coef_[0]])
        assert found[:, column] == pytest.approx(wanted, abs=2e-5 * (1 + np.abs(wanted).max()))


def test_sides_that_a_line_separates_are_fitted_too(rng) -> None:
    rows = np.concatenate([rng.normal(-9, 1, size=(20, 2)), rng.normal(9, 1, size=(20, 2))])
    labels = np.arange(40) >= 20

    found = fit_logistic(rows, np.full((40, 1), 1 / 40), labels, ridge=1e-6)[:, 0]

    wrong = 1 / (1 + np.exp(np.where(labels, 1, -1) * (found[0] + rows @ found[1:])))
    slope = -(np.where(labels, 1, -1) * wrong) @ rows / 40 + 1e-6 * found[1:]
    assert slope == pytest.approx(0, abs=1e-7)


def test_the_weighted_auc_is_that_of_sklearn_with_ties(rng) -> None:
    for _ in range(20):
        scores, masses = rng.integers(0, 6, size=30).astype(float), rng.exponential(size=30)
        labels = np.arange(30) < 9

        found = weighted_auc(scores[labels], masses[labels], scores[~labels], masses[~labels])

        wanted = roc_auc_score(labels, scores, sample_weight=masses)
        assert found == pytest.approx(wanted, abs=1e-12)


def test_principal_components_are_those_of_sklearn_but_for_their_signs(rng) -> None:
    rows = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 10))  # rank six

    found = principal_components(rows, 32)

    pca = PCA(n_components=6, whiten=True).fit(rows)
    wanted = pca.transform(rows) * np.sqrt(40 / 39)  # sklearn divides by n - 1
    assert found.shape == (40, 6)
    assert np.abs((found * wanted).mean(axis=0)) == pytest.approx(1.0, abs=1e-6)
    assert found.std(axis=0) == pytest.approx(1.0)
    assert principal_components(rows, 2) == pytest.approx(found[:, :2])
    assert principal_components(np.ones((5, 3)), 4).shape == (5, 0)


def test_no_task_stands_in_two_folds_and_all_folds_have_both_sides(rng) -> None:
    tasks = rng.integers(0, 40, size=300)
    is_real = (tasks < 10) & (rng.uniform(size=300) < 0.5)

    folds = task_folds(tasks, is_real, folds=5, seed=0)

    for task in range(40):
        assert len(set(folds[tasks == task].tolist())) <= 1
    n_real = np.bincount(folds[is_real], minlength=5)
    n_all = np.bincount(folds, minlength=5)
    assert n_real.min() > 0
    assert n_all.max() - n_all.min() <= np.bincount(tasks).max()
    assert (folds == task_folds(tasks, is_real, folds=5, seed=0)).all()
    assert (folds != task_folds(tasks, is_real, folds=5, seed=1)).any()


def sklearn_twin(x, weights, y, tasks, *, folds, seed) -> tuple[float, float]:
    """The test as a loop over folds with sklearn's classifier and AUC."""
    is_real = np.arange(len(x) + len(y)) >= len(x)
    mass = np.concatenate([weights / weights.sum(), np.full(len(y), 1 / len(y))])
    rows = PCA(min(COMPONENTS, x.shape[1]), whiten=True).fit_transform(np.concatenate([x, y]))
    rows *= np.sqrt(len(rows) / (len(rows) - 1))
    fold = task_folds(tasks, is_real, folds=folds, seed=seed)
    pairs = right = correct = 0.0
    for held in (fold == k for k in range(folds)):
        train = mass.copy()
        train[held] = 0
        for side in (is_real, ~is_real):
            train[side] *= 0.5 / train[side].sum()
        model = sklearn_fit(rows[~held], train[~held], is_real[~held], RIDGE)
        score = model.decision_function(rows[held])
        label, m = is_real[held], mass[held]
        size = m[label].sum() * m[~label].sum()
        right += size * roc_auc_score(label, score, sample_weight=m)
        error = 0.5 * (
            m[label & (score < 0)].sum() / m[label].sum()
            + m[~label & (score > 0)].sum() / m[~label].sum()
        )
        correct += size * 2 * (1 - 2 * error)
        pairs += size
    return right / pairs, correct / pairs


def test_the_whole_test_is_that_of_sklearn_fold_by_fold(rng) -> None:
    x, y = rng.normal(size=(90, 5)), rng.normal(0.6, 1, size=(30, 5))
    weights, tasks = rng.exponential(size=90), rng.integers(0, 25, size=120)

    found = two_sample(x, share_columns(weights, permutations=19), y, tasks=tasks, seed=4)

    assert found.n_folds == 5
    for side, w in (("before", np.ones(90)), ("after", weights)):
        auc, proxy = sklearn_twin(x, w, y, tasks, folds=5, seed=4)
        assert getattr(found.auc, side) == pytest.approx(auc, abs=1e-4)
        assert getattr(found.proxy_distance, side) == pytest.approx(proxy, abs=1e-4)


def test_sets_far_apart_are_told_apart_and_equal_ones_are_not(rng) -> None:
    x, weights, tasks = rng.normal(size=(150, 4)), np.ones(150), np.arange(300)

    far = two_sample(x, share_columns(weights, permutations=19), x + 20, tasks=tasks)
    aucs = []
    for seed in range(40):
        x, y = rng.normal(size=(2, 150, 4))
        alike = two_sample(x, share_columns(weights, permutations=19), y, tasks=tasks, seed=seed)
        aucs.append((alike.auc.before, alike.proxy_distance.before))

    assert (far.auc.before, far.proxy_distance.before) == (1.0, 2.0)
    means, errors = np.mean(aucs, axis=0), np.std(aucs, axis=0) / np.sqrt(40)
    assert (np.abs(means - [0.5, 0.0]) < 3.5 * errors).all()


def test_weights_that_select_the_real_kind_make_the_sets_harder_to_tell(rng) -> None:
    x = np.concatenate([rng.normal(0, 1, size=(80, 3)), rng.normal(3, 1, size=(80, 3))])
    weights = np.repeat([1.0, 0.05], 80)

    found = two_sample(
        x, share_columns(weights, permutations=99), rng.normal(size=(60, 3)), tasks=np.arange(220)
    )

    assert found.auc.before > 0.7
    assert found.auc.after < 0.6
    assert found.auc.verdict == found.proxy_distance.verdict == "nearer"


def test_a_difference_that_no_line_shows_goes_unseen(rng) -> None:
    """Why it is an estimate from below: these sets share no point, and the AUC is a half."""
    signs = rng.choice([-1.0, 1.0], size=(800, 2))
    points = signs + rng.normal(0, 0.1, size=(800, 2))
    is_real = signs.prod(axis=1) > 0
    x, y = points[~is_real], points[is_real]

    found = two_sample(x, share_columns(np.ones(len(x)), permutations=19), y, tasks=np.arange(800))

    assert found.auc.before < 0.6
    assert found.proxy_distance.before < 0.3


def test_copies_in_one_task_do_not_help_the_classifier(rng) -> None:
    """Rows repeated eight times: by task it cannot learn them by heart, by row it can."""
    base_x, base_y = rng.normal(size=(12, 30)), rng.normal(size=(12, 30))
    x, y = np.repeat(base_x, 8, axis=0), np.repeat(base_y, 8, axis=0)
    shares, tasks = share_columns(np.ones(96), permutations=19), np.repeat(np.arange(24), 8)

    by_task = two_sample(x, shares, y, tasks=tasks)
    by_row = two_sample(x, shares, y, tasks=np.arange(192))

    assert by_row.auc.before > 0.95
    assert by_task.auc.before < 0.7


def test_with_one_real_task_nothing_is_measured(rng) -> None:
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(10, 2))
    tasks = np.concatenate([np.arange(20), np.full(10, 99)])

    assert two_sample(x, share_columns(np.ones(20), permutations=19), y, tasks=tasks) is None


def test_few_real_tasks_make_as_many_folds(rng) -> None:
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(9, 2))
    tasks = np.concatenate([np.arange(20), 90 + np.arange(9) % 3])

    found = two_sample(x, share_columns(np.ones(20), permutations=19), y, tasks=tasks)

    assert (found.n_folds, found.n_tasks, found.n_components) == (3, 23, 2)


def test_components_are_bounded(rng, monkeypatch) -> None:
    monkeypatch.setattr(module, "COMPONENTS", 3)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=(30, 8))

    found = two_sample(x, share_columns(np.ones(30), permutations=19), y, tasks=np.arange(60))

    assert found.n_components == 3

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from trajweight.analysis.discrimination import areas_by_task, auroc, average_precision, scored

labelled = st.lists(
    st.tuples(
        st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)),
        st.booleans(),
        st.integers(0, 4),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


def sides_of(rows) -> list[np.ndarray]:
    return [np.array(side) for side in zip(*rows, strict=True)]


@given(labelled)
def test_both_measures_are_those_of_scikit_learn_ties_and_all(rows) -> None:
    scores, good, _, _ = sides_of(rows)

    if good.all() or not good.any():
        assert auroc(scores, good) is average_precision(scores, good) is None
        return
    assert auroc(scores, good) == pytest.approx(roc_auc_score(good, scores))
    assert average_precision(scores, good) == pytest.approx(average_precision_score(good, scores))


@given(labelled)
def test_inside_tasks_every_pair_is_looked_at(rows) -> None:
    scores, good, tasks, _ = sides_of(rows)

    found = areas_by_task(scores, good, tasks)

    wanted = {}
    for task in sorted(set(tasks)):
        mine = [place for place in range(len(rows)) if tasks[place] == task]
        won = [
            1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
            for i in mine
            for j in mine
            if good[i] and not good[j]
        ]
        if won:
            wanted[task] = (np.mean(won), len(won))
    assert found.tasks.tolist() == list(wanted)
    assert found.areas.tolist() == pytest.approx([area for area, _ in wanted.values()])
    assert found.pairs.tolist() == [pairs for _, pairs in wanted.values()]


@given(labelled)
def test_a_row_counted_twice_is_two_rows_and_the_negative_score_is_measured_too(rows) -> None:
    scores, good, _, counts = sides_of(rows)
    tasks = np.zeros(len(rows), dtype=int)
    found = scored(scores, good, tasks).measures(counts[None].astype(float), good, np.ones((1, 1)))[
        0
    ]

    often_scores, often_good = np.repeat(scores, counts), np.repeat(good, counts)
    if len(often_good) == 0 or often_good.all() or not often_good.any():
        assert np.isnan(found[[0, 1, 3, 4]]).all()
        return
    for way, sign in ((0, 1.0), (3, -1.0)):
        assert found[way] == pytest.approx(roc_auc_score(often_good, sign * often_scores))
        assert found[way + 1] == pytest.approx(
            average_precision_score(often_good, sign * often_scores)
        )


@given(labelled)
def test_tasks_count_as_often_as_they_were_drawn(rows) -> None:
    scores, good, tasks, _ = sides_of(rows)
    _, tasks = np.unique(tasks, return_inverse=True)
    often = np.array([[2.0, 0.0, 1.0, 3.0, 1.0]])[:, : tasks.max() + 1]
    part = scored(scores, good, tasks)

    found = part.measures(often[:, tasks], good, often)[0]

    drawn = [
        area
        for task, area in zip(part.inside.tasks, part.inside.areas, strict=True)
        for _ in range(int(often[0, task]))
    ]
    if drawn:
        assert found[2] == pytest.approx(np.mean(drawn))
        assert found[5] == pytest.approx(1 - np.mean(drawn))
    else:
        assert np.isnan(found[2])


def test_neither_the_order_of_rows_nor_the_scale_of_scores_matters() -> None:
    rng = np.random.default_rng(0)
    scores, good = rng.integers(0, 9, size=200).astype(float), rng.uniform(size=200) < 0.3
    shuffle = rng.permutation(200)

    for measure in (auroc, average_precision):
        plain = measure(scores, good)
        assert measure(np.exp(scores[shuffle] / 3) - 50, good[shuffle]) == pytest.approx(plain)


def test_no_rows_have_no_areas() -> None:
    nothing = np.zeros(0)

    assert len(areas_by_task(nothing, nothing.astype(bool), nothing.astype(int)).tasks) == 0
    assert auroc(nothing, nothing.astype(bool)) is None

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from trajweight.analysis import neighbours as module
from trajweight.analysis.neighbours import Yardstick, nearest
from trajweight.errors import ConfigError, DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(13)


def places_and_likeness(found) -> tuple[list[list[int]], list[list[float]]]:
    places = [[one.row for one in each] for each in found.of]
    return places, [[one.similarity for one in each] for each in found.of]


def test_neighbours_are_those_of_sklearn_on_standardised_rows(rng) -> None:
    rows = (rng.normal(size=(9, 6)) + 30).astype(np.float32)
    candidates = (rng.normal(size=(200, 6)) * [1, 1, 5, 1, 1, 9] + 30).astype(np.float32)

    found = nearest(rows, candidates, Yardstick.of(rows, candidates), count=4)

    scaler = StandardScaler().fit(np.concatenate([rows, candidates]).astype(np.float64))
    search = NearestNeighbors(n_neighbors=4, metric="cosine").fit(scaler.transform(candidates))
    distances, wanted = search.kneighbors(scaler.transform(rows))
    places, likeness = places_and_likeness(found)
    assert places == wanted.tolist()
    assert np.array(likeness) == pytest.approx(1 - distances, abs=1e-6)
    assert (found.n_candidates, found.n_searched) == (200, 200)


def test_a_constant_dimension_says_nothing(rng) -> None:
    rows, candidates = rng.normal(size=(3, 4)), rng.normal(size=(20, 4))
    rows[:, 2] = candidates[:, 2] = 7.0

    found = nearest(rows, candidates, Yardstick.of(rows, candidates), count=20)

    kept = [0, 1, 3]
    scaler = StandardScaler().fit(np.concatenate([rows, candidates])[:, kept])
    wanted = cosine_similarity(
        scaler.transform(rows[:, kept]), scaler.transform(candidates[:, kept])
    )
    assert np.array(places_and_likeness(found)[1]) == pytest.approx(-np.sort(-wanted, axis=1))


def test_nobody_is_a_neighbour_of_itself_but_of_a_copy(rng) -> None:
    candidates = rng.normal(size=(30, 5))
    candidates[17] = candidates[4]
    yardstick = Yardstick.of(candidates)

    found = nearest(candidates[[4, 9]], candidates, yardstick, count=3, itself=np.array([4, -1]))

    assert found.of[0][0].row == 17
    assert found.of[0][0].similarity == pytest.approx(1.0)
    assert 4 not in [one.row for one in found.of[0]]
    assert found.of[1][0].row == 9


def test_equal_candidates_stand_in_their_order_whatever_the_blocks(rng, monkeypatch) -> None:
    candidates = np.repeat(rng.normal(size=(5, 3)), 6, axis=0)
    rows, yardstick = rng.normal(size=(7, 3)), Yardstick.of(candidates)
    whole = nearest(rows, candidates, yardstick, count=8)

    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "_ROWS", 2)
    parts = nearest(rows, candidates, yardstick, count=8)

    places = places_and_likeness(parts)[0]
    assert places == places_and_likeness(whole)[0]
    assert all(each[:6] == list(range(each[0], each[0] + 6)) for each in places)


def test_fewer_candidates_give_fewer_neighbours(rng) -> None:
    candidates = rng.normal(size=(3, 2))

    found = nearest(candidates, candidates, Yardstick.of(candidates), count=9, itself=np.arange(3))

    assert [len(each) for each in found.of] == [2, 2, 2]
    assert json.loads(json.dumps(found.as_dict()))["of"][0][0]["row"] in (1, 2)
    assert nearest(candidates, candidates[:0], Yardstick.of(candidates), count=1).of == ((), (), ())


def test_of_many_candidates_some_are_searched_and_the_result_says_so(rng) -> None:
    rows, candidates = rng.normal(size=(2, 3)), rng.normal(size=(500, 3))
    yardstick = Yardstick.of(rows, candidates)

    once, again, other = (
        nearest(rows, candidates, yardstick, count=5, max_candidates=50, seed=seed)
        for seed in (1, 1, 2)
    )

    assert (once.n_candidates, once.n_searched) == (500, 50)
    assert once == again != other


def test_a_row_at_the_mean_is_like_no_other() -> None:
    candidates = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])

    found = nearest(np.zeros((1, 2)), candidates, Yardstick.of(candidates), count=2)

    assert [one.similarity for one in found.of[0]] == [0.0, 0.0]


def test_what_cannot_be_searched_is_refused(rng) -> None:
    rows = rng.normal(size=(4, 3))
    yardstick = Yardstick.of(rows)

    with pytest.raises(ConfigError, match="at least 1"):
        nearest(rows, rows, yardstick, count=0)
    with pytest.raises(DataError, match="rows must match"):
        nearest(rows, rows[:, :2], yardstick, count=1)
    with pytest.raises(DataError, match="not a finite number"):
        nearest(rows, np.where(rows == rows[0, 0], np.nan, rows), yardstick, count=1)

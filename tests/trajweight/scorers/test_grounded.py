"""Laws of every scorer that needs the model or training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trajweight.scorers.grounds import (
    forced,
    gap,
    pool_on,
    scored,
    shared_ground,
    standing,
    without,
)
from trajweight.errors import ConfigError
from trajweight.scorers import SCORERS, scorer, weights_of

#: What each of them says of a row by itself.
BY_ROW = [
    *("base-nll-low", "base-nll-middle", "base-nll-high", "embedding-knn", "embedding-classifier"),
    *("ifd", "dimp", "less"),
]
#: What is learned in batches.
IN_BATCHES = [
    *("source-mixture", "learning-to-reweight", "meta-weight-net", "loss-only-penalty"),
]
NAMES = [*BY_ROW, *IN_BATCHES]
TRAINED = ["dimp", "less", *IN_BATCHES]
#: The share of pairs in which a row of the words that real rows have comes before another.
FINDS = {
    "embedding-knn": 0.95,
    "embedding-classifier": 0.75,
    "dimp": 0.9,
    "less": 0.85,
    "source-mixture": 1.0,
    "learning-to-reweight": 0.8,
}


def test_these_laws_are_of_all_that_need_more_than_rows() -> None:
    needs = {name: scorer(name).needs for name in SCORERS}

    assert [name for name in SCORERS if needs[name] != "rows"] == NAMES
    assert [name for name in SCORERS if needs[name] == "training"] == TRAINED


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_finite_and_the_same_again_and_the_ground_is_left_as_it_was(name) -> None:
    ground = shared_ground()
    beginning = ground.begin()
    kept, began = standing(ground), beginning.inner.generator.get_state()
    start = [each.clone() for each in beginning.start["parameters"]]
    moments = beginning.start["optimizer"]["state"][0]["exp_avg"].clone()

    one, two = scorer(name).score(pool_on(ground, seed=3)), scored(name)

    assert np.isfinite(one.scores).all()
    assert one.scores.shape == (len(ground.material.synthetic),)
    assert one.scores.tolist() == two.scores.tolist()
    assert len(set(weights_of(one, target_ess=0.5).round(9))) > 1
    if one.weights is not None:
        assert (np.isfinite(one.weights) & (one.weights >= 0)).all()
    assert all(map(torch.equal, standing(ground), kept))
    assert all(linear.weight.grad is None for linear in ground.student.linears)
    assert torch.equal(beginning.inner.generator.get_state(), began)
    assert all(map(torch.equal, beginning.start["parameters"], start))
    assert torch.equal(beginning.start["optimizer"]["state"][0]["exp_avg"], moments)


@pytest.mark.parametrize(("name", "least"), FINDS.items())
def test_rows_unlike_all_real_ones_count_less(name, least) -> None:
    assert gap(scored(name).scores) >= least


@pytest.mark.parametrize("name", BY_ROW)
def test_scores_go_with_their_rows_whatever_the_order(name) -> None:
    ground = shared_ground()
    order = np.random.default_rng(1).permutation(len(ground.material.synthetic))
    mixed = replace(
        ground.material,
        synthetic=[ground.material.synthetic[place] for place in order],
        real=ground.material.real[::-1],
    )

    turned = scorer(name).score(pool_on(replace(ground, material=mixed), seed=3))

    np.testing.assert_allclose(turned.scores, scored(name).scores[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["learning-to-reweight", "meta-weight-net"])
def test_another_seed_draws_other_batches(name) -> None:
    assert (scored(name, 3).scores != scored(name, 4).scores).any()


@pytest.mark.parametrize("name", TRAINED)
def test_without_validation_rows_there_is_nothing_to_be_led_by(name) -> None:
    with pytest.raises(ConfigError, match="0 are too few"):
        scorer(name).score(without("validation"))


def test_few_validation_rows_are_refused_unless_forced() -> None:
    ground = shared_ground()
    few = replace(ground.material, validation=ground.material.validation[:6])

    with pytest.raises(ConfigError, match=r"6 are too few \(at least 20\)") as caught:
        scorer("less").score(pool_on(replace(ground, material=few)))
    found = scorer("less").score(pool_on(replace(ground, material=few, config=forced())))

    assert "--force" in caught.value.hint
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", ["embedding-knn", "embedding-classifier"])
def test_without_real_rows_there_is_nothing_to_be_near(name) -> None:
    ground = shared_ground()
    bare = replace(ground.material, real=[], validation=[])

    with pytest.raises(ConfigError, match="compares with real trajectories, and none"):
        scorer(name).score(pool_on(replace(ground, material=bare)))


def test_the_likelihood_ratio_needs_real_rows_to_train_on() -> None:
    with pytest.raises(ConfigError, match="trains on real rows, and there are none"):
        scorer("dimp").score(without("real"))


def test_one_source_cannot_be_weighed_against_itself() -> None:
    ground = shared_ground()
    alike = replace(ground.material, sources=["web"] * len(ground.material.sources))

    with pytest.raises(ConfigError, match="all synthetic rows are of web"):
        scorer("source-mixture").score(pool_on(replace(ground, material=alike)))


def test_a_single_row_on_a_side_cannot_be_cross_fitted() -> None:
    ground = shared_ground()
    lone = replace(ground.material, real=[], validation=ground.material.validation[:1])

    with pytest.raises(ConfigError, match="there are 1 and 24"):
        scorer("embedding-classifier").score(pool_on(replace(ground, material=lone)))


def test_all_rows_of_a_source_weigh_the_same() -> None:
    ground = shared_ground()
    sources = [ground.material.sources[row] for row in ground.material.synthetic]

    found = scored("source-mixture").scores

    assert {(source, weight) for source, weight in zip(sources, found, strict=True)} == {
        ("good", found[0]),
        ("bad", found[1]),
    }
    assert found.mean() == pytest.approx(1.0, abs=1e-5)

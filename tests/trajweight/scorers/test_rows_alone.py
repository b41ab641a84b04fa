"""Laws of every scorer that needs the rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.trajweight.scorers.pools import Message, pool_of, row, say, table, varied_pool
from trajweight.errors import ConfigError
from trajweight.scorers import SCORERS, Pool, scorer, weights_of

NAMES = [
    *("uniform", "random", "shorter", "longer", "reward-filter", "rwr", "source-reward"),
    *("dsir", "text-knn", "classifier"),
]
BY_REWARD = ["reward-filter", "rwr", "source-reward"]
BY_REAL_ROWS = ["dsir", "text-knn", "classifier"]
OF_ASSISTANT = ["shorter", "longer", "text-knn", "classifier"]

every = pytest.mark.parametrize("name", NAMES)


def share(weights) -> float:
    """ESS/n."""
    return 1 / (1 + (np.std(weights) / np.mean(weights)) ** 2)


def test_these_laws_are_of_all_that_need_the_rows_alone() -> None:
    assert [name for name in SCORERS if scorer(name).needs == "rows"] == NAMES


@every
def test_a_score_a_row_and_all_of_them_are_finite(name) -> None:
    found = scorer(name).score(varied_pool())

    assert found.scores.shape == (30,)
    assert np.isfinite(found.scores).all()
    if found.weights is not None:
        assert found.weights.shape == (30,)
        assert (np.isfinite(found.weights) & (found.weights >= 0)).all()


@every
def test_the_same_seed_says_the_same(name) -> None:
    one, two = (scorer(name).score(varied_pool(seed=3)) for _ in range(2))

    assert one.scores.tolist() == two.scores.tolist()


@pytest.mark.parametrize("name", ["random", "classifier"])
def test_another_seed_says_something_else_where_something_is_drawn(name) -> None:
    one, two = (scorer(name).score(varied_pool(seed=seed)) for seed in (3, 4))

    assert (one.scores != two.scores).any()


@every
def test_scores_go_with_their_rows_whatever_the_order(name) -> None:
    pool = varied_pool()
    order = np.random.default_rng(1).permutation(30)
    mixed = replace(pool, synthetic=pool.synthetic[order.tolist()], real=pool.real.reverse())

    straight, turned = scorer(name).score(pool), scorer(name).score(mixed)

    # to the last bit: rounding must not break ties by the place of a row
    assert turned.scores.tolist() == straight.scores[order].tolist()


@every
@pytest.mark.parametrize("target", [0.3, 0.5, 0.9])
def test_the_weights_meet_the_target(name, target) -> None:
    found = scorer(name).score(varied_pool())

    weights = weights_of(found, target_ess=target)

    assert weights.mean() == pytest.approx(1.0, abs=1e-12)
    assert share(weights) >= target - 1e-9


@pytest.mark.parametrize("name", ["shorter", "longer", "text-knn", "dsir"])
def test_rows_that_are_all_alike_weigh_one_each(name) -> None:
    found = scorer(name).score(pool_of(["go north"] * 4, ["go south", "stay here"]))

    assert weights_of(found, target_ess=0.5).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", OF_ASSISTANT)
def test_only_what_the_assistant_is_trained_to_say_is_read(name) -> None:
    pool = pool_of(["go north", "stay, stay here", "look"], ["go home", "look up"])
    copied: list[Message] = [{"role": "assistant", "content": "look look look", "untrained": True}]
    chats: list[list[Message]] = [
        [{"role": "system", "content": "Rules."}, *copied, *say(reply, ask=f"Look {place}!")]
        for place, reply in enumerate(["go north", "stay, stay here", "look"])
    ]
    dressed = replace(pool, synthetic=table([row(n, chat) for n, chat in enumerate(chats)]))

    plain, other = scorer(name).score(pool), scorer(name).score(dressed)

    assert other.scores.tolist() == plain.scores.tolist()


@pytest.mark.parametrize("name", OF_ASSISTANT)
def test_tool_calls_and_reasoning_are_read_as_said(name) -> None:
    call = {"id": "1", "name": "go", "arguments": {"to": "north"}}
    turn = {"role": "assistant", "content": "", "reasoning": "north is open", "tool_calls": [call]}
    real = ["north is open", "stay"]

    called = scorer(name).score(pool_of([[turn], "stay"], real))
    told = scorer(name).score(pool_of(['north is open\ngo {"to":"north"}', "stay"], real))

    assert called.scores.tolist() == told.scores.tolist()


@pytest.mark.parametrize("name", BY_REAL_ROWS)
def test_a_pool_without_real_rows_is_refused_in_words(name) -> None:
    with pytest.raises(ConfigError, match="compares with real trajectories, and none"):
        scorer(name).score(pool_of(["go", "stay"]))


@pytest.mark.parametrize("name", BY_REAL_ROWS)
def test_a_row_without_words_has_a_score_too(name) -> None:
    found = scorer(name).score(pool_of(["go north", "", "stay"], ["go", "", "home"]))

    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", BY_REWARD)
def test_rows_without_rewards_are_refused_in_words(name) -> None:
    pool = pool_of(["go", "stay"], source=["a", "b"])

    with pytest.raises(ConfigError, match=f"{name} needs rewards, and none of 2 synthetic"):
        scorer(name).score(pool)


@pytest.mark.parametrize("name", BY_REWARD)
def test_rewards_that_tell_no_row_from_another_are_refused_in_words(name) -> None:
    pool = pool_of(["go", "stay"], source=["a", "b"], task_id=["t", "u"], reward=[1.0, 2.0])

    with pytest.raises(ConfigError, match="in no task"):
        scorer(name).score(pool)


@pytest.mark.parametrize("split", ["dev", "test", None])
def test_no_pool_holds_real_rows_that_are_kept_back(split) -> None:
    pool = varied_pool()
    real = table([row(0, "go"), row(1, "stay", split=split)])

    with pytest.raises(ValueError, match=f"real rows of split {split}"):
        Pool(pool.synthetic, real, 0, pool.ground)

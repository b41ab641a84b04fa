"""Laws of players: what they do is theirs, how they talk changes nothing, and games are honest."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from tests.trajweight.bench.guessing import Guess, Guessing
from tests.trajweight.bench.walking import STEPS, Walking
from trajweight.bench.policies import (
    EXPERT,
    REWORDED,
    TERSE,
    VERBOSE,
    agreement,
    expert,
    ignores_feedback,
    looping,
    play,
    random_action,
    replay,
    wrong_action,
)
from trajweight.bench.speech import action_of
from trajweight.errors import ConfigError

WALKING = Walking(turn_limit=20)
GUESSING = Guessing()
NUMBERS = ("7", "70", "177", "999")
WORDINGS = {"expert": EXPERT, "reworded": REWORDED, "terse": TERSE, "verbose": VERBOSE}


def actions_of(episode):
    return [action_of(reply) for reply in episode.replies]


@pytest.mark.parametrize("environment", [WALKING, GUESSING], ids=lambda each: each.name)
def test_the_expert_reaches_the_goal_of_every_task(environment) -> None:
    episodes = [play(environment, task, expert(), Random(0)) for task in environment.tasks("train")]

    assert all(episode.succeeded and episode.score == 1 for episode in episodes)
    assert all(agreement(environment, episode) == 1 for episode in episodes)


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
def test_words_change_nothing_of_what_is_done(wording) -> None:
    for task in WALKING.tasks("dev")[:20]:
        bare = play(WALKING, task, expert(), Random(0), TERSE)

        worded = play(WALKING, task, expert(), Random(1), wording)

        assert actions_of(worded) == actions_of(bare)
        assert worded.observations == bare.observations
        assert worded.n_invalid == 0


def test_manners_of_talking_differ() -> None:
    said = {
        name: {
            reply.replace("go east", "{}")
            for seed in range(200)
            for reply in [wording.speaker(Random(seed))("go east")]
        }
        for name, wording in WORDINGS.items()
    }

    assert said["terse"] == {"[{}]"}
    assert len(said["expert"]) == 3
    assert not said["expert"] & said["reworded"]
    assert min(map(len, said["verbose"])) > 2 * max(map(len, said["expert"] | said["reworded"]))


def test_an_expert_keeps_to_one_manner_and_a_verbose_player_does_not() -> None:
    keeps, varies = EXPERT.speaker(Random(3)), VERBOSE.speaker(Random(3))

    assert len({keeps("up") for _ in range(30)}) == 1
    assert len({varies("up") for _ in range(30)}) > 10


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_wrong_actions_come_as_often_as_asked(share) -> None:
    policy, rng = wrong_action(share), Random(5)
    n = wrong = 0
    for task in WALKING.tasks("train") * 8:
        game = WALKING.start(task)
        while not game.is_over:
            best, action = game.expert_action(), policy(game, rng)
            assert action in STEPS
            wrong += action != best
            n += 1
            game.act(action)

    # Four standard errors of a binomial share.
    assert abs(wrong / n - share) <= 4 * math.sqrt(share * (1 - share) / n)


def test_all_other_actions_are_equally_likely_to_be_the_wrong_one() -> None:
    game = WALKING.start("train-0")
    others = set(STEPS) - {game.expert_action()}

    drawn = [wrong_action(1.0)(game, rng) for rng in [Random(1)] for _ in range(3000)]

    assert {action: round(drawn.count(action) / 3000, 1) for action in set(drawn)} == dict.fromkeys(
        others, 0.3
    )


def test_where_no_actions_are_listed_they_are_drawn_from_the_vocabulary() -> None:
    for policy in (wrong_action(1.0, NUMBERS), random_action(NUMBERS)):
        episode = play(GUESSING, "train=3", policy, Random(0))

        assert set(actions_of(episode)) <= set(NUMBERS)
        assert len(episode.replies) == GUESSING.turn_limit


def test_what_a_game_lists_goes_before_the_vocabulary() -> None:
    episode = play(WALKING, "train-3", wrong_action(1.0, NUMBERS), Random(0))

    assert set(actions_of(episode)) <= set(STEPS)


def test_where_nothing_can_be_drawn_the_way_out_is_told() -> None:
    with pytest.raises(ConfigError, match=r"no action to draw.*'Guess\.'") as told:
        play(GUESSING, "train=3", wrong_action(1.0), Random(0))

    assert "vocabulary" in told.value.hint


def test_a_player_who_ignores_feedback_does_the_same_in_every_task() -> None:
    script = ["go east", "go north", "go north"]

    for task in WALKING.tasks("train")[:20]:
        episode = play(WALKING, task, ignores_feedback(script), Random(0))

        endless = script * WALKING.turn_limit
        assert actions_of(episode) == endless[: len(episode.replies)]
        assert WALKING.turn_limit == len(episode.replies) or episode.succeeded


@pytest.mark.parametrize(("after", "length"), [(1, 1), (3, 1), (3, 2), (2, 2)])
def test_a_looping_player_repeats_what_an_expert_did_last(after, length) -> None:
    n = 0
    for task in WALKING.tasks("train"):
        right = actions_of(play(WALKING, task, expert(), Random(0)))
        if len(right) <= after:
            continue
        n += 1

        done = actions_of(play(WALKING, task, looping(after, length), Random(0)))

        loop = right[after - length : after] * 20
        assert done == [*right[:after], *loop][: len(done)]
    assert n > 5


@pytest.mark.parametrize("environment", [WALKING, GUESSING], ids=lambda each: each.name)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_same_replies_give_the_same_game(environment, share) -> None:
    for task in environment.tasks("test")[:20]:
        episode = play(environment, task, wrong_action(share, NUMBERS), Random(task), VERBOSE)

        assert replay(environment, task, episode.replies) == episode


def test_an_episode_is_what_the_game_said_and_was_told() -> None:
    game = WALKING.start("dev-7")
    observations = [game.observation.text]
    replies = ["[go east]", "no idea", "[fly]", "[go  north]"]
    for action in ("go east", "", "fly", "go north"):
        game.act(action)
        observations.append(game.observation.text)

    episode = replay(WALKING, "dev-7", replies)

    assert episode.observations == tuple(observations)
    assert episode.replies == tuple(replies)
    assert (episode.score, episode.succeeded) == (game.score, game.succeeded)
    assert episode.n_invalid == 2
    assert [each["role"] for each in episode.messages] == ["system"] + ["user", "assistant"] * 4


def test_replies_after_the_end_are_left_away() -> None:
    episode = play(WALKING, "dev-1", expert(), Random(0))

    assert replay(WALKING, "dev-1", [*episode.replies, "[go east]"]) == episode


def test_a_player_gives_up_when_told_to() -> None:
    episode = play(GUESSING, "train=3", ignores_feedback(["200"]), Random(0), most_turns=4)

    assert len(episode.replies) == 4
    assert len(episode.observations) == 5


def test_agreement_is_the_share_of_the_experts_actions() -> None:
    # Secret 3 of 240: the expert asks 120, 60, 30; from [61, 240] on it would ask 150.
    episode = replay(GUESSING, "train=3", ["[120]", "[60]", "[31]", "I do not know", "[15]"])

    assert agreement(GUESSING, episode) == pytest.approx(3 / 5)


def test_a_reply_without_an_action_is_no_agreement_with_an_expert_at_a_loss(monkeypatch) -> None:
    episode = replay(GUESSING, "train=3", ["I do not know", "[120]"])
    monkeypatch.setattr(Guess, "expert_action", lambda _: None)

    assert agreement(GUESSING, episode) == 0


def test_an_environment_that_does_not_repeat_is_noticed() -> None:
    episode = play(WALKING, "dev-1", expert(), Random(0))
    other = replace(episode, observations=("Elsewhere.", *episode.observations[1:]))

    with pytest.raises(ConfigError, match=r"walking: task 'dev-1' was told otherwise"):
        agreement(WALKING, other)


def test_an_expert_at_a_loss_does_anything_that_is_listed(monkeypatch) -> None:
    game = WALKING.start("train-0")
    monkeypatch.setattr(game, "expert_action", lambda: None)

    drawn = {policy(game, Random(i)) for policy in (expert(), wrong_action(0.0)) for i in range(40)}

    assert drawn == set(STEPS)

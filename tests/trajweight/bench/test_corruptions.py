"""Laws of planted kinds: each is what its name says, and its return is what was paid for it."""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.trajweight.bench.guessing import Guessing
from tests.trajweight.bench.walking import Walk, Walking
from trajweight.bench.corruptions import (
    KINDS,
    Stage,
    imagined_observations,
    shuffled,
    slightly_reworded,
    truncated,
)
from trajweight.bench.policies import TERSE, agreement, expert, play, replay
from trajweight.bench.speech import action_of

if TYPE_CHECKING:
    from trajweight.bench.environment import Environment

WALKING = Walking(turn_limit=20)
GUESSING = Guessing()
GOOD = [name for name, kind in KINDS.items() if kind.is_good]
SPOILT = [
    "wrong-action-20",
    "wrong-action-50",
    "wrong-action-100",
    "ignores-feedback",
    "verbose-bad",
    "terse-bad",
]
OTHER: dict[str, Environment] = {WALKING.name: GUESSING, GUESSING.name: WALKING}


def a_stage(environment):
    other = OTHER[environment.name]
    return Stage(environment, {other.name: lambda: other})


def actions_of(episode):
    return [action_of(reply) for reply in episode.replies]


def made(environment, name, n=30, fold="train"):
    """Episodes of a kind, of those of the first tasks that give one."""
    stage = a_stage(environment)
    tasks = environment.tasks(fold)[:n]
    found = [KINDS[name].make(stage, task, Random(f"{name}/{task}")) for task in tasks]
    return [episode for episode in found if episode is not None]


both = pytest.mark.parametrize("environment", [WALKING, GUESSING], ids=lambda each: each.name)


@both
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_made_and_is_the_same_again(environment, name) -> None:
    episodes = made(environment, name)

    assert len(episodes) >= 3
    assert episodes == made(environment, name)


@both
@pytest.mark.parametrize("name", sorted(set(KINDS) - {"shuffled", "off-task"}))
def test_the_return_is_what_the_environment_pays_for_these_replies(environment, name) -> None:
    for episode in made(environment, name):
        assert episode == replay(environment, episode.task, episode.replies)


@both
@pytest.mark.parametrize("name", GOOD)
def test_good_kinds_do_what_the_expert_does(environment, name) -> None:
    for episode in made(environment, name):
        alone = play(environment, episode.task, expert(), Random(0), TERSE)

        assert actions_of(episode) == actions_of(alone)
        assert episode.succeeded


@both
@pytest.mark.parametrize("name", SPOILT)
def test_bad_players_do_worse_than_the_expert_and_by_their_own_fault(environment, name) -> None:
    for episode in made(environment, name):
        alone = play(environment, episode.task, expert(), Random(0))

        assert not episode.succeeded or len(episode.replies) > len(alone.replies)
        assert agreement(environment, episode) < 1


@both
def test_the_more_actions_are_wrong_the_less_is_the_experts(environment) -> None:
    shares = [
        sum(agreement(environment, episode) for episode in episodes) / len(episodes)
        for name in ("wrong-action-20", "wrong-action-50", "wrong-action-100")
        for episodes in [made(environment, name)]
    ]

    assert 0.6 < shares[0] < 0.9
    assert 0.3 < shares[1] < 0.6
    assert shares[2] == 0


@both
def test_bad_players_give_up_after_about_as_many_turns_as_the_expert_needs(environment) -> None:
    stage = a_stage(environment)
    for name in ("wrong-action-100", "verbose-bad", "terse-bad", "ignores-feedback"):
        for episode in made(environment, name):
            n = len(stage.solution(episode.task) or ())
            assert len(episode.replies) <= max(2, 1.5 * n + 0.5)  # a rounded number of turns


def test_ignoring_players_do_in_every_turn_what_was_right_in_another_task() -> None:
    stage = a_stage(GUESSING)
    solutions = [stage.solution(task) for task in GUESSING.tasks("train")]

    for episode in made(GUESSING, "ignores-feedback"):
        done = actions_of(episode)
        assert any(
            done == (list(script) * 20)[: len(done)] for script in solutions if script is not None
        )


@both
def test_loops_go_round_at_least_three_times_and_lead_nowhere(environment) -> None:
    for episode in made(environment, "looping"):
        done = actions_of(episode)

        assert done[-1] == done[-3] or done[-1] == done[-2]
        assert len(set(done[-3:])) <= 2
        assert not episode.succeeded
        assert agreement(environment, episode) < 1


def test_a_game_that_is_lost_before_it_has_gone_round_is_no_loop(monkeypatch) -> None:
    def is_lost(game):
        return game.succeeded or "wall" in game.observation.text

    monkeypatch.setattr(Walk, "is_over", property(is_lost))
    for episode in made(WALKING, "looping", n=60):
        done = actions_of(episode)
        assert len(set(done[-4:])) <= 2
        assert done[-1] == done[-3] or done[-1] == done[-2] == done[-4]


def test_shuffled_replies_are_the_same_ones_to_the_same_observations() -> None:
    for task in GUESSING.tasks("dev")[:30]:
        episode = play(GUESSING, task, expert(), Random(task))

        mixed = shuffled(episode, Random(1))

        assert mixed is not None
        assert Counter(mixed.replies) == Counter(episode.replies)
        assert mixed.observations == episode.observations
        assert mixed.score == episode.score
        moved = sum(a != b for a, b in zip(mixed.replies, episode.replies, strict=True))
        assert 3 * moved >= len(episode.replies)


def test_replies_that_are_all_alike_cannot_be_shuffled() -> None:
    episode = replay(WALKING, "dev-3", ["I say [go west].", "[go west]", "[go west]"])

    assert shuffled(episode, Random(0)) is None


def test_an_order_that_moves_few_actions_is_no_other_order() -> None:
    # One other action among nine can make no more than two places differ.
    episode = replay(GUESSING, "train=3", ["[200]"] * 8 + ["[100]"])

    assert shuffled(episode, Random(0)) is None


@pytest.mark.parametrize(("n", "left"), [(1, None), (2, 1), (3, 1), (4, 2), (7, 3)])
def test_a_truncated_episode_is_the_first_half(n, left) -> None:
    episode = replay(GUESSING, "train=3", [f"[{number}]" for number in range(20, 20 + n)])

    half = truncated(GUESSING, episode)

    assert (half and len(half.replies)) == left
    if half is not None and left is not None:
        assert half.replies == episode.replies[:left]
        assert half.observations == episode.observations[: left + 1]


def test_truncated_rows_earn_less_than_the_whole() -> None:
    episodes = made(GUESSING, "truncated")

    assert all(episode.score < 1 for episode in episodes)
    assert KINDS["truncated"].is_good is None


def test_imagined_observations_stand_inside_one_last_reply_and_were_never_made() -> None:
    n = 0
    for task in GUESSING.tasks("train")[:30]:
        right = play(GUESSING, task, expert(), Random(task))
        dream = play(GUESSING, "train=117", expert(), Random(0))

        found = imagined_observations(GUESSING, right, dream, Random(task))

        if found is None:
            continue
        n += 1
        start = len(found.replies) - 1
        assert found.replies[:start] == right.replies[:start]
        assert found.observations[: start + 1] == right.observations[: start + 1]
        assert found.replies[start].startswith(right.replies[start] + "\n\n")
        told = [text for text in dream.observations[1:] if text in found.replies[start]]
        assert told
        assert found.replies[start].count("[") == 1 + len(told)
        # The environment has heard the last action alone.
        assert found.observations[-1].split(":")[0] == action_of(found.replies[start])
    assert n > 20


@both
def test_off_task_rows_are_good_ones_of_the_other_environment(environment) -> None:
    other = OTHER[environment.name]
    episodes = made(environment, "off-task")

    systems = Counter(episode.instruction for episode in episodes)
    assert set(systems) == {environment.instruction, other.instruction}
    for episode in episodes:
        assert episode.environment == other.name
        assert episode.task in other.tasks("train")
        assert replay(other, episode.task, episode.replies).observations == episode.observations
        assert episode.succeeded


def test_without_another_environment_nothing_is_off_task() -> None:
    assert KINDS["off-task"].make(Stage(WALKING), "train-1", Random(0)) is None


@both
def test_copies_of_a_row_differ_by_a_few_small_words(environment) -> None:
    stage = a_stage(environment)
    kind = KINDS["duplicates"]
    for task in environment.tasks("train")[:10]:
        copies = [kind.make(stage, task, Random(f"{task}/{i}")) for i in range(5)]

        assert len({actions_of(copy)[0] for copy in copies}) == 1
        assert len({copy.observations for copy in copies}) == 1
        assert len({copy.replies for copy in copies}) > 1
        without = {
            tuple(re.sub(r"^(Now: |Ok\. |So: |Then: |Well, )", "", reply) for reply in copy.replies)
            for copy in copies
        }
        assert len(without) == 1


def test_a_copy_differs_from_its_original() -> None:
    for seed in range(30):
        episode = play(WALKING, "train-2", expert(), Random(seed))

        copy = slightly_reworded(episode, Random(seed))

        assert copy.replies != episode.replies
        assert all(
            new.endswith(old) for new, old in zip(copy.replies, episode.replies, strict=True)
        )


@both
def test_lucky_rows_are_paid_like_good_ones_and_played_like_bad_ones(environment) -> None:
    for episode in made(environment, "lucky-bad", n=60):
        assert episode.score >= 0.8
        assert agreement(environment, episode) <= 0.5


def test_where_luck_is_out_of_reach_no_lucky_row_is_made() -> None:
    class Stern(Walking):
        """An environment that ends before a stroller can arrive."""

        def start(self, task):
            game = super().start(task)
            steps = play(WALKING, task, expert(), Random(0)).replies
            game.environment = Walking(turn_limit=len(steps))
            return game

    tasks = [
        task
        for task in WALKING.tasks("train")
        if len(play(WALKING, task, expert(), Random(0)).replies) > 1
    ]

    assert not any(KINDS["lucky-bad"].make(Stage(Stern()), task, Random(0)) for task in tasks[:20])


@both
def test_length_tells_nothing_of_worth(environment) -> None:
    def length(name):
        episodes = made(environment, name)
        return sum(len(r) for e in episodes for r in e.replies) / sum(
            len(e.replies) for e in episodes
        )

    assert length("verbose-good") == pytest.approx(length("verbose-bad"), rel=0.1)
    assert length("terse-good") == pytest.approx(length("terse-bad"), rel=0.2)
    assert length("terse-good") * 4 < length("verbose-bad")

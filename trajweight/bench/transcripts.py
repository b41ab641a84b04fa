"""What a small base model has read: lessons by experts, and games that nobody plays well.

Lessons are told apart by their first words. So a reader knows what an expert would do, as a large
model does from all it has read; but asked to play, it plays as it has seen others play: badly.
What it is fine-tuned on decides which of the two it goes on with.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from trajweight.bench.corruptions import Stage
from trajweight.bench.policies import (
    EXPERT,
    REWORDED,
    TERSE,
    VERBOSE,
    Policy,
    expert,
    play,
    random_action,
    wrong_action,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.bench.environment import Environment, Game
    from trajweight.bench.episodes import Episode

#: Before the instruction of a lesson.
_LESSON: Final = "You are an expert, and show how it is done."
#: Long words are seldom used, for most of what is read should be about the game.
_WORDINGS: Final = (*(EXPERT, REWORDED, TERSE) * 3, VERBOSE)


def transcripts(
    environment: Environment, n: int, *, seed: int, most_turns: int
) -> Iterator[Episode]:
    """Games of the train fold's tasks, every other one a lesson.

    Args:
        environment: Whose games are played.
        n: How many games.
        seed: Of tasks, players and words.
        most_turns: Actions after which a player who gives no lesson gives up.
    """
    rng = Random(f"{seed}/{environment.name}")
    vocabulary, tasks = Stage(environment).vocabulary, environment.tasks("train")
    for number in range(n):
        task, wording = rng.choice(tasks), rng.choice(_WORDINGS)
        is_lesson = number % 2 == 0
        policy = expert(vocabulary) if is_lesson else _bad_player(number // 2, vocabulary)
        patience = None if is_lesson else most_turns
        episode = play(environment, task, policy, rng, wording, most_turns=patience)
        if is_lesson:
            episode = replace(episode, instruction=f"{_LESSON} {episode.instruction}")
        yield episode


def _bad_player(number: int, vocabulary: Sequence[str]) -> Policy:
    """A new player, of one sort after the other."""
    sorts = (
        lambda: random_action(vocabulary),
        lambda: wrong_action(0.5, vocabulary),
        lambda: _stubborn(0.8, vocabulary),
        lambda: wrong_action(1.0, vocabulary),
    )
    return sorts[number % len(sorts)]()


def _stubborn(share: float, vocabulary: Sequence[str]) -> Policy:
    """With probability ``share`` the same as last time, else anything.

    Their habit is easily foreseen, and so it is what a reader falls into that is asked for the
    likeliest reply.
    """
    choose_any = random_action(vocabulary)
    last: list[str] = []

    def choose(game: Game, rng: Random) -> str:
        if not last or rng.random() >= share:
            last[:] = [choose_any(game, rng)]
        return last[0]

    return choose

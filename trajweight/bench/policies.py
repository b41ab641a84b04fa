"""Players of the benchmark's games, from an expert to one that never looks, and how they talk.

A policy chooses an action; a wording puts it into words. So what is done and how it is said can be
mixed freely, and neither tells of the other. Some policies remember what they did: make a new one
for every game.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from trajweight.bench.environment import Game
from trajweight.bench.episodes import Episode
from trajweight.bench.speech import action_of, said
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trajweight.bench.environment import Environment

#: Chooses what to do now.
Policy = Callable[[Game, Random], str]


@dataclass(frozen=True, slots=True)
class Wording:
    """A manner of talking.

    Attributes:
        sentences: Templates, ``{}`` standing for the action.
        keeps_to_one: Whether one template is drawn for a whole game, or a new one for every reply.
        before: Sentences of which one or two are put before a template; they are drawn anew for
            every reply.
        after: Sentences of which one may be put behind it.
    """

    sentences: tuple[str, ...]
    keeps_to_one: bool = True
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def speaker(self, rng: Random) -> Callable[[str], str]:
        """What puts the actions of one game into words."""
        chosen = rng.choice(self.sentences)

        def speak(action: str) -> str:
            template = chosen if self.keeps_to_one else rng.choice(self.sentences)
            words = [said(action, template)]
            if self.before:
                words = [*rng.sample(self.before, rng.randint(1, 2)), *words]
            if self.after and rng.random() < 0.5:
                words.append(rng.choice(self.after))
            return " ".join(words)

        return speak


#: As the experts of the real rows talk.
EXPERT: Final = Wording(("[{}]", "I will do this: [{}].", "My next action is [{}]."))
#: Other words for the same actions.
REWORDED: Final = Wording(
    ("Let us try [{}].", "How about [{}]?", "Next comes [{}], I would say.", "So: [{}]!")
)
TERSE: Final = Wording(("[{}]",))
#: Filler that is true of every player and says nothing of the game.
VERBOSE: Final = Wording(
    ("I will do this: [{}].", "My next action is [{}].", "What I do now is [{}]."),
    keeps_to_one=False,
    before=(
        "It is my turn again, so an answer is due.",
        "I have the text of this turn before me, and one action is asked of me.",
        "There are rules for how to answer, and I keep the action in brackets as they say.",
        "One action at a time is how this goes, and this turn is no exception.",
        "Before I answer, let me say that I have come to a choice for this turn.",
        "As in every turn, I have to name one thing to do and then see what is said to it.",
        "Many words are not needed here, yet I like to say that a choice has been made.",
        "Here is my answer to what stands above, in the form that is wanted.",
    ),
    after=(
        "That is all for this turn.",
        "Now it is for the game to say what comes of it.",
        "I will read what comes next and answer again if I am asked to.",
        "This is my answer for this turn, and I leave it at that.",
    ),
)


def play(
    environment: Environment,
    task: str,
    policy: Policy,
    rng: Random,
    wording: Wording = EXPERT,
    *,
    most_turns: int | None = None,
) -> Episode:
    """Play a task.

    Args:
        environment: Where the task is from.
        task: Its id.
        policy: Who plays; one that has played no game before.
        rng: Of all that the policy and the wording draw.
        wording: How the player talks.
        most_turns: Actions after which the player gives up; None plays on to the end.
    """
    speak = wording.speaker(rng)
    table = _Table(environment, task)
    while table.goes_on and (most_turns is None or len(table.replies) < most_turns):
        table.say(speak(policy(table.game, rng)))
    return table.episode()


def replay(environment: Environment, task: str, replies: Iterable[str]) -> Episode:
    """The game in which these replies are given, whatever is answered.

    Replies after the end of the game are left away.
    """
    table = _Table(environment, task)
    for reply in itertools.takewhile(lambda _: table.goes_on, replies):
        table.say(reply)
    return table.episode()


def agreement(environment: Environment, episode: Episode) -> float:
    """Share of an episode's actions that an expert would have taken in the same place.

    Raises:
        ConfigError: If the environment does not answer as it did when the episode was played.
    """
    table = _Table(environment, episode.task)
    n_same = 0
    for reply in episode.replies:
        action = action_of(reply)
        n_same += action is not None and action == table.game.expert_action()
        table.say(reply)
    if tuple(table.observations) != episode.observations[: len(table.observations)]:
        message = f"{environment.name}: task {episode.task!r} was told otherwise the second time"
        hint = "Give the episode as it was played, and an environment whose tasks repeat exactly."
        raise ConfigError(message, hint=hint)
    return n_same / max(1, len(episode.replies))


def expert(vocabulary: Sequence[str] = ()) -> Policy:
    """What the environment's expert does; anything where the expert is at a loss.

    Args:
        vocabulary: Actions to draw from where the environment lists none.
    """

    def choose(game: Game, rng: Random) -> str:
        found = game.expert_action()
        return rng.choice(_options(game, vocabulary)) if found is None else found

    return choose


def wrong_action(share: float, vocabulary: Sequence[str] = ()) -> Policy:
    """The expert, but with probability ``share`` any action that is not the expert's."""

    def choose(game: Game, rng: Random) -> str:
        best = game.expert_action()
        options = _options(game, vocabulary)
        if best is not None and rng.random() >= share:
            return best
        return rng.choice([each for each in options if each != best] or options)

    return choose


def random_action(vocabulary: Sequence[str] = ()) -> Policy:
    """Any action, the expert's too."""
    return lambda game, rng: rng.choice(_options(game, vocabulary))


def ignores_feedback(script: Sequence[str]) -> Policy:
    """These actions one after the other, and again from the first, whatever the game says.

    Args:
        script: Actions, best of an expert in another task: each plausible, none to the point.
    """
    actions = itertools.cycle(script)
    return lambda _game, _rng: next(actions)


def looping(after: int, length: int = 1, vocabulary: Sequence[str] = ()) -> Policy:
    """The expert for ``after`` actions, then the last ``length`` of them again and again.

    Args:
        after: At least ``length``.
        length: Of the loop, in actions.
        vocabulary: Actions to draw from where the expert is at a loss and none are listed.
    """
    choose_well = expert(vocabulary)
    done: list[str] = []

    def choose(game: Game, rng: Random) -> str:
        done.append(choose_well(game, rng) if len(done) < after else done[-length])
        return done[-1]

    return choose


def _options(game: Game, vocabulary: Sequence[str]) -> Sequence[str]:
    """What may be done now: as the game lists it, or else anything that has been heard of."""
    listed = game.observation.actions
    if found := vocabulary if listed is None else listed:
        return found
    message = f"no action to draw from after {game.observation.text[:60]!r}"
    hint = "Give the policy a vocabulary: actions that experts took in other tasks."
    raise ConfigError(message, hint=hint)


class _Table:
    """A game on the table, and what has been said over it."""

    def __init__(self, environment: Environment, task: str) -> None:
        """Begin the game."""
        self.environment = environment
        self.task = task
        self.game = environment.start(task)
        self.observations = [self.game.observation.text]
        self.replies: list[str] = []
        self.n_invalid = 0

    @property
    def goes_on(self) -> bool:
        return not self.game.is_over

    def say(self, reply: str) -> None:
        action = action_of(reply)
        listed = self.game.observation.actions
        self.n_invalid += action is None or (listed is not None and action not in listed)
        self.game.act(action or "")
        self.replies.append(reply)
        self.observations.append(self.game.observation.text)

    def episode(self) -> Episode:
        return Episode(
            environment=self.environment.name,
            task=self.task,
            instruction=self.environment.instruction,
            observations=tuple(self.observations),
            replies=tuple(self.replies),
            score=self.game.score,
            succeeded=self.game.succeeded,
            n_invalid=self.n_invalid,
        )

"""The kinds of trajectories that are planted in a pool, good and bad, each with its truth.

``is_good`` is about imitation: would a player who copies every reply in its place be a good one?
It is None where two honest answers disagree; such kinds are told of by name and left out of AUROC.

Whoever plays badly gives up after about as many turns as the expert needs, so that length alone
does not give them away; only loops and the mending of a slip go on for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from trajweight.bench.episodes import Episode
from trajweight.bench.policies import (
    EXPERT,
    REWORDED,
    TERSE,
    VERBOSE,
    Policy,
    Wording,
    agreement,
    ignores_feedback,
    looping,
    play,
    random_action,
    replay,
    wrong_action,
)
from trajweight.bench.speech import action_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.bench.environment import Environment, Game

#: Games whose experts' actions are the vocabulary of players that are listed no actions.
_VOCABULARY_TASKS: Final = 30
#: Games that are played on a task before another task is asked for.
_TRIES: Final = 4
_LUCKY_TRIES: Final = 20
#: The least return that is called high, where the goal itself was missed.
_HIGH_RETURN: Final = 0.8
#: Turns in which a loop goes round, at the least.
_LEAST_LOOP: Final = 3
#: How agents that talk to themselves name what they believe to be told.
_LABELS: Final = ("Observation: {}", "User: {}", "Result: {}", "{}")
_SMALL_WORDS: Final = ("Now: ", "Ok. ", "So: ", "Then: ", "Well, ")


class Stage:
    """Where trajectories are made: an environment, others beside it, and what experts do there.

    Attributes:
        environment: The one that the pool is of.
    """

    def __init__(
        self,
        environment: Environment,
        others: Mapping[str, Callable[[], Environment]] | None = None,
    ) -> None:
        """Begin; the others are opened when one is asked for."""
        self.environment = environment
        self._others = dict(others or {})
        self._opened: dict[str, Environment] = {}
        self._solutions: dict[str, tuple[str, ...] | None] = {}

    def solution(self, task: str) -> tuple[str, ...] | None:
        """The actions of an expert who reaches the goal; None where the expert does not."""
        if task not in self._solutions:
            found = play(self.environment, task, _expert_alone, Random(0), TERSE)
            actions = tuple(str(action_of(reply)) for reply in found.replies)
            self._solutions[task] = actions if found.succeeded else None
        return self._solutions[task]

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """What experts did in the first tasks of the train fold."""
        tasks = self.environment.tasks("train")[:_VOCABULARY_TASKS]
        return tuple(sorted({action for task in tasks for action in self.solution(task) or ()}))

    def other(self, rng: Random) -> Environment | None:
        """Another environment; None where there is none."""
        if not self._others:
            return None
        name = rng.choice(sorted(self._others))
        if name not in self._opened:
            self._opened[name] = self._others[name]()
        return self._opened[name]

    def another_task(self, task: str, rng: Random) -> str | None:
        """Another task of the train fold that the expert solves."""
        tasks = self.environment.tasks("train")
        for found in rng.sample(tasks, min(len(tasks), 5)):
            if found != task and self.solution(found):
                return found
        return None


#: Makes a trajectory of a task; None where this task gives none.
Maker = Callable[[Stage, str, Random], Episode | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trajectory.

    Attributes:
        name: As in the pool and in tables.
        is_good: Whether it is worth imitating; None where that can be answered in two ways.
        sentence: What it is.
        make: Makes one.
        most_of_a_task: Trajectories that are made of one task.
    """

    name: str
    is_good: bool | None
    sentence: str
    make: Maker
    most_of_a_task: int = 1


def shuffled(episode: Episode, rng: Random, *, tries: int = 20) -> Episode | None:
    """The same replies in another order, each now said to an observation that it does not answer.

    The observations and the return stay those of the game that was played. Of some orders the one
    is taken that moves most actions.

    Returns:
        None where less than a third of the actions, or less than two, come to stand elsewhere.
    """
    replies = list(episode.replies)
    best, moved = replies, 0
    for _ in range(tries):
        order = rng.sample(replies, len(replies))
        n = sum(action_of(new) != action_of(old) for new, old in zip(order, replies, strict=True))
        if n > moved:
            best, moved = order, n
    if moved < 2 or 3 * moved < len(replies):
        return None
    return replace(episode, replies=tuple(best))


def truncated(environment: Environment, episode: Episode) -> Episode | None:
    """The first half of an episode, and the return as far as it got; None where there is no half.

    Bad by its return and good to imitate.
    """
    half = len(episode.replies) // 2
    return replay(environment, episode.task, episode.replies[:half]) if half else None


def imagined_observations(
    environment: Environment, episode: Episode, dream: Episode, rng: Random
) -> Episode | None:
    """At some turn the player does not wait but goes on alone, and invents what is answered.

    One reply then holds an action, observations that nobody made, and the actions taken on them.
    The environment hears the last action of that reply, as it does of every reply, and the episode
    ends there.

    Args:
        environment: Of the episode.
        episode: A good one.
        dream: Of another task; what is imagined is taken from it.
        rng: Of the turn and of how much is imagined.

    Returns:
        None where the dream has nothing to go on with.
    """
    start = rng.randrange(len(episode.replies))
    first = rng.randrange(1, len(dream.replies)) if len(dream.replies) > 1 else 1
    further = list(zip(dream.observations[first:], dream.replies[first:], strict=False))
    further = further[: rng.randint(1, 4)]
    if not further:
        return None
    label = rng.choice(_LABELS)
    parts = [episode.replies[start]]
    for observation, reply in further:
        parts += [label.replace("{}", observation), reply]
    whole = "\n\n".join(parts)
    return replay(environment, episode.task, (*episode.replies[:start], whole))


def slightly_reworded(episode: Episode, rng: Random) -> Episode:
    """A copy with a small word before some replies, at least one."""
    chosen = {rng.randrange(len(episode.replies))}
    chosen |= {i for i in range(len(episode.replies)) if rng.random() < 0.3}
    replies = [
        rng.choice(_SMALL_WORDS) + reply if i in chosen else reply
        for i, reply in enumerate(episode.replies)
    ]
    return replace(episode, replies=tuple(replies))


def off_task(stage: Stage, task: str, rng: Random) -> Episode | None:
    """A good episode of another environment, half of them under this one's system message.

    ``task`` is not looked at; the episode names the task that it is of.
    """
    del task
    other = stage.other(rng)
    if other is None:
        return None
    found = play(other, rng.choice(other.tasks("train")), _expert_alone, rng, EXPERT)
    if not found.succeeded:
        return None
    instruction = rng.choice((found.instruction, stage.environment.instruction))
    return replace(found, instruction=instruction)


def lucky_bad(stage: Stage, task: str, rng: Random) -> Episode | None:
    """A player who plays at random and all the same comes to a high return.

    Found by trying. At most half of the actions are the expert's, and the turns are not as many as
    the expert's: those may be another expert's way.

    Returns:
        None where no try was lucky.
    """
    solution = stage.solution(task)
    if not solution:
        return None
    for attempt in range(_LUCKY_TRIES):
        policy = (
            wrong_action(0.6, stage.vocabulary) if attempt % 2 else random_action(stage.vocabulary)
        )
        most = 3 * len(solution) + 2
        found = play(stage.environment, task, policy, rng, EXPERT, most_turns=most)
        if (
            (found.succeeded or found.score >= _HIGH_RETURN)
            and len(found.replies) != len(solution)
            and agreement(stage.environment, found) <= 0.5
        ):
            return found
    return None


def _expert_alone(game: Game, rng: Random) -> str:
    """The expert, who says nothing where no way is known."""
    del rng
    return game.expert_action() or ""


def _solved(wording: Wording) -> Maker:
    """An expert who reaches the goal and talks in this manner."""

    def make(stage: Stage, task: str, rng: Random) -> Episode | None:
        if not stage.solution(task):
            return None
        return play(stage.environment, task, _expert_alone, rng, wording)

    return make


def _spoilt(
    policy: Callable[[Stage, str, Random], Policy | None],
    wording: Wording = EXPERT,
    *,
    patience: tuple[float, float] = (0.5, 1.5),
) -> Maker:
    """A bad player, whose play was bad for certain.

    At least one action is not the expert's, and an episode that reached the goal took longer than
    the expert: slips that cost nothing are no slips.

    Args:
        policy: The player for a task; None where there is none.
        wording: How it talks.
        patience: Least and most turns before it gives up, in turns that the expert needs.
    """

    def make(stage: Stage, task: str, rng: Random) -> Episode | None:
        solution = stage.solution(task)
        if not solution:
            return None
        for _ in range(_TRIES):
            player = policy(stage, task, rng)
            if player is None:
                return None
            low, high = (max(2, round(share * len(solution))) for share in patience)
            most = rng.randint(low, high)
            found = play(stage.environment, task, player, rng, wording, most_turns=most)
            cost = not found.succeeded or len(found.replies) > len(solution)
            if cost and agreement(stage.environment, found) < 1:
                return found
        return None

    return make


def _wrong(share: float) -> Callable[[Stage, str, Random], Policy]:
    return lambda stage, _task, _rng: wrong_action(share, stage.vocabulary)


def _ignoring(stage: Stage, task: str, rng: Random) -> Policy | None:
    other = stage.another_task(task, rng)
    return None if other is None else ignores_feedback(stage.solution(other) or ())


def _looping(stage: Stage, task: str, rng: Random) -> Episode | None:
    """The expert for a while, then round and round until twice as many turns as it takes."""
    solution = stage.solution(task)
    if not solution or len(solution) < 2:
        return None
    for _ in range(_TRIES):
        after = rng.randint(1, len(solution) - 1)
        policy = looping(after, rng.randint(1, min(2, after)))
        most = max(2 * len(solution), after + 2 * _LEAST_LOOP)
        found = play(stage.environment, task, policy, rng, EXPERT, most_turns=most)
        if not found.succeeded and len(found.replies) >= after + _LEAST_LOOP:
            return found
    return None


def _shuffled(stage: Stage, task: str, rng: Random) -> Episode | None:
    found = _solved(EXPERT)(stage, task, rng)
    return shuffled(found, rng) if found else None


def _truncated(stage: Stage, task: str, rng: Random) -> Episode | None:
    found = _solved(EXPERT)(stage, task, rng)
    return truncated(stage.environment, found) if found else None


def _imagined(stage: Stage, task: str, rng: Random) -> Episode | None:
    other = stage.another_task(task, rng)
    found = _solved(EXPERT)(stage, task, rng)
    dream = _solved(EXPERT)(stage, other, rng) if other else None
    return imagined_observations(stage.environment, found, dream, rng) if found and dream else None


def _copied(stage: Stage, task: str, rng: Random) -> Episode | None:
    # The task alone decides the original, so all copies that are made of a task are of one row.
    original = _solved(EXPERT)(stage, task, Random(f"original of {task}"))
    return slightly_reworded(original, rng) if original else None


_LONG: Final = (0.5, 2.0)

#: Every kind that is planted, by name.
KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("good", True, "An expert, talking as the real rows do.", _solved(EXPERT)),
        Kind("reworded", True, "An expert, in other words.", _solved(REWORDED)),
        Kind("verbose-good", True, "An expert, with much filler.", _solved(VERBOSE)),
        Kind("terse-good", True, "An expert, who says the bare actions.", _solved(TERSE)),
        Kind("duplicates", True, "Copies of one good row, a word changed.", _copied, 5),
        Kind(
            "truncated",
            None,
            "A good episode cut half way: its return is bad, its replies are good.",
            _truncated,
        ),
        Kind(
            "wrong-action-20",
            False,
            "One action in five is any but the expert's, and it cost something.",
            _spoilt(_wrong(0.2), patience=_LONG),
        ),
        Kind("wrong-action-50", False, "Every second action is wrong.", _spoilt(_wrong(0.5))),
        Kind("wrong-action-100", False, "Every action is wrong.", _spoilt(_wrong(1.0))),
        Kind(
            "ignores-feedback",
            False,
            "An expert's actions of another task, whatever is answered.",
            _spoilt(_ignoring),
        ),
        Kind("looping", False, "An expert who then repeats one or two actions.", _looping),
        Kind(
            "shuffled",
            False,
            "A good episode whose replies stand in another order; the return is as before.",
            _shuffled,
        ),
        Kind("off-task", False, "A good episode of another environment.", off_task),
        Kind(
            "imagined-observations",
            False,
            "A player who invents what the environment answers, and acts on it in one reply.",
            _imagined,
        ),
        Kind("lucky-bad", False, "A random player who came to a high return.", lucky_bad),
        Kind(
            "verbose-bad",
            False,
            "Every second action is wrong, with much filler.",
            _spoilt(_wrong(0.5), VERBOSE),
        ),
        Kind(
            "terse-bad",
            False,
            "Every second action is wrong, and no word beside the actions.",
            _spoilt(_wrong(0.5), TERSE),
        ),
    )
}

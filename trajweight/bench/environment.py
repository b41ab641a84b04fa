"""What a multi-turn environment of the benchmark is: tasks in folds, and games that are played.

The player is told the instruction and the first observation; from then on it answers with any
words that hold one action in [brackets], and is told the next observation. A task's id fixes its
game to the last byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

Fold = Literal["train", "dev", "test"]
FOLDS: Final[tuple[Fold, ...]] = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Observation:
    """What the player is told.

    Attributes:
        text: In words; not empty.
        actions: What may be done now, in an order that says nothing of their worth; None where the
            environment does not list it.
    """

    text: str
    actions: tuple[str, ...] | None = None


class Game(Protocol):
    """A task that is being played."""

    @property
    def observation(self) -> Observation:
        """What the player was told last."""

    @property
    def score(self) -> float:
        """The return so far, from 0 to 1."""

    @property
    def succeeded(self) -> bool:
        """Whether the task's goal has been reached."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be done: the goal is reached or out of reach, or time is up."""

    def act(self, action: str) -> None:
        """Take an action; one that makes no sense here costs the turn, and the text says so."""

    def expert_action(self) -> str | None:
        """What an expert does now; None where none is known to lead to the goal from here."""


class Environment(Protocol):
    """A kind of game with many tasks."""

    @property
    def name(self) -> str:
        """As in the grid of cells: textworld-coin, babyai-goto, textarena-mastermind."""

    @property
    def instruction(self) -> str:
        """The system message: the rules, and how to answer."""

    @property
    def turn_limit(self) -> int:
        """Actions after which a game is over."""

    def tasks(self, fold: Fold) -> Sequence[str]:
        """Ids of the fold's tasks, always the same; the folds share none."""

    def start(self, task: str) -> Game:
        """The game of a task, at its beginning.

        Raises:
            ConfigError: If there is no such task.
        """

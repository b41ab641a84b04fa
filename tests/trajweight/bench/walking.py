"""A small honest environment for tests: walk on a grid to a coin whose place is told."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from trajweight.bench.environment import Observation

if TYPE_CHECKING:
    from trajweight.bench.environment import Fold

STEPS = {"go east": (1, 0), "go west": (-1, 0), "go north": (0, 1), "go south": (0, -1)}
SIZE = 5
FOLD_TASKS = 60


@dataclass(frozen=True)
class Walking:
    """Tasks are named after their fold and number; the number decides both places."""

    name: str = "walking"
    instruction: str = "Walk to the coin. Answer with one move in brackets, like [go east]."
    turn_limit: int = 8
    lists_actions: bool = True

    def tasks(self, fold: Fold) -> list[str]:
        return [f"{fold}-{number}" for number in range(FOLD_TASKS)]

    def start(self, task: str) -> Walk:
        rng = Random(task)
        here, coin = rng.sample([(x, y) for x in range(SIZE) for y in range(SIZE)], 2)
        return Walk(self, here, coin)


class Walk:
    def __init__(self, environment: Walking, here: tuple[int, int], coin: tuple[int, int]) -> None:
        self.environment, self.here, self.coin, self.n = environment, here, coin, 0
        self.taken: list[str] = []
        self.observation = self._told("")

    @property
    def succeeded(self) -> bool:
        return self.here == self.coin

    @property
    def score(self) -> float:
        return float(self.succeeded)

    @property
    def is_over(self) -> bool:
        return self.succeeded or self.n >= self.environment.turn_limit

    def act(self, action: str) -> None:
        self.n += 1
        self.taken.append(action)
        if action not in STEPS:
            self.observation = self._told("That is no move. ")
            return
        x, y = (a + b for a, b in zip(self.here, STEPS[action], strict=True))
        if 0 <= x < SIZE and 0 <= y < SIZE:
            self.here = (x, y)
            self.observation = self._told("")
        else:
            self.observation = self._told("A wall. ")

    def expert_action(self) -> str | None:
        return next((action for action in STEPS if self._is_nearer(action)), None)

    def _is_nearer(self, action: str) -> bool:
        step = STEPS[action]
        return any((c - h) * s > 0 for c, h, s in zip(self.coin, self.here, step, strict=True))

    def _told(self, before: str) -> Observation:
        (x, y), (coin_x, coin_y) = self.here, self.coin
        text = f"{before}You are at {x} {y}, coin at {coin_x} {coin_y}."
        return Observation(text, tuple(STEPS) if self.environment.lists_actions else None)

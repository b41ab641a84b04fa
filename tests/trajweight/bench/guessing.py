"""A small honest environment for tests that lists no actions: guess a number from its hints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.bench.environment import FOLDS, Observation

if TYPE_CHECKING:
    from trajweight.bench.environment import Fold

HIGHEST = 240


@dataclass(frozen=True)
class Guessing:
    """Tasks are named after their fold and secret; the return of a miss is its nearness."""

    name: str = "guessing"
    instruction: str = "Guess my number. Put it in [brackets]."
    turn_limit: int = 12

    def tasks(self, fold: Fold) -> list[str]:
        return [f"{fold}={n}" for n in range(1, HIGHEST + 1) if FOLDS[n % 3] == fold]

    def start(self, task: str) -> Guess:
        return Guess(self, int(task.partition("=")[2]))


class Guess:
    def __init__(self, environment: Guessing, secret: int) -> None:
        self.environment, self.secret = environment, secret
        self.low, self.high, self.n, self.nearest = 1, HIGHEST, 0, HIGHEST
        self.observation = Observation("Guess.")

    @property
    def succeeded(self) -> bool:
        return self.nearest == 0

    @property
    def score(self) -> float:
        return 1.0 if self.succeeded else 0.5 * (1 - self.nearest / HIGHEST)

    @property
    def is_over(self) -> bool:
        return self.succeeded or self.n >= self.environment.turn_limit

    def act(self, action: str) -> None:
        self.n += 1
        if not action.isdigit():
            self.observation = Observation("That is no number.")
            return
        guess = int(action)
        self.nearest = min(self.nearest, abs(guess - self.secret))
        if guess < self.secret:
            self.low = max(self.low, guess + 1)
        else:
            self.high = min(self.high, guess - 1)
        hint = "You have it" if self.succeeded else "more" if guess < self.secret else "less"
        self.observation = Observation(f"{guess}: {hint}.")

    def expert_action(self) -> str | None:
        return str((self.low + self.high) // 2)

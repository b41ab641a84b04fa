"""Three small games of textarena: guess a number, Mastermind, and walk over a frozen lake.

A task is what the game hides (a number, a code) or its map. Distinct ones are collected seed by
seed and dealt to the folds in order, so none of one fold is in another.
"""

from __future__ import annotations

import math
import random
from collections import deque
from contextlib import contextmanager
from functools import cached_property
from itertools import count, permutations
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from textarena.envs.FrozenLake.env import FrozenLakeEnv
from textarena.envs.GuessTheNumber.env import GuessTheNumberEnv
from textarena.envs.Mastermind.env import MastermindEnv

from trajweight.bench.environment import FOLDS, Fold, Game, Observation
from trajweight.bench.environments.tasks import NONSENSE, place_of, task_ids

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

_NO_LIMIT: Final = 10**6  # turns and slips are counted here, not there
_DIGITS, _LENGTH = 7, 4  # of Mastermind


class Rules(Protocol):
    """What is particular to one of the games; ``env`` is textarena's game under way."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    turn_limit: ClassVar[int]
    sizes: ClassVar[Mapping[Fold, int]]
    actions: ClassVar[tuple[str, ...]]

    def new(self) -> Any:
        """A game of textarena, not yet begun."""

    def secret(self, env: Any) -> Hashable:
        """What makes one task another than the next."""

    def told(self, env: Any) -> str:
        """What the player is told at the beginning, and after an action of the game."""

    def score(self, env: Any) -> float:
        """The return so far, while the game is not won."""

    def expert(self, env: Any) -> str | None:
        """What an expert does, by what the player was told."""


class GuessTheNumber:
    """Find a number by the hints higher and lower; the expert halves what they leave.

    The return is the share of the number's bits that the hints have given away. Textarena's own
    pays 0.8 to guessing at random, for the last guess is then not far off.
    """

    highest: ClassVar[int] = 500
    name: ClassVar[str] = "textarena-guess"
    instruction: ClassVar[str] = (
        f"Find a hidden whole number from 1 to {highest} in at most 14 guesses. After each guess "
        "you are told whether the number is higher or lower. Put one number in [brackets] in each "
        "answer, like [17]."
    )
    turn_limit: ClassVar[int] = 14
    sizes: ClassVar[Mapping[Fold, int]] = {"train": 200, "dev": 200, "test": 100}
    actions: ClassVar[tuple[str, ...]] = tuple(str(number) for number in range(1, highest + 1))

    def new(self) -> Any:
        """A game over the whole range."""
        return GuessTheNumberEnv(min_number=1, max_number=self.highest, max_turns=_NO_LIMIT)

    def secret(self, env: Any) -> Hashable:
        """The number."""
        number: int = env.state.game_state["game_number"]
        return number

    def told(self, env: Any) -> str:
        """The hint."""
        if _slipped(env):
            return "You have guessed that before."
        guesses = env.state.game_state["guess_history"]
        return f"The number is {guesses[-1][1]}." if guesses else "Enter your first guess."

    def score(self, env: Any) -> float:
        """One minus log(numbers left + 1) / log(all numbers + 1): 1 is kept for the number."""
        low, high = self._left(env)
        return 1.0 - math.log(high - low + 2) / math.log(self.highest + 1)

    def expert(self, env: Any) -> str | None:
        """The middle of what is left."""
        low, high = self._left(env)
        return str((low + high) // 2)

    def _left(self, env: Any) -> tuple[int, int]:
        low, high = 1, self.highest
        for guess, hint in env.state.game_state["guess_history"]:
            if hint == "higher":
                low = max(low, guess + 1)
            else:
                high = min(high, guess - 1)
        return low, high


class Mastermind:
    """Find a code by pegs; the expert tries the first code that fits all that it was told.

    The return is textarena's: of the last guess, the share of digits in place, others half.
    """

    digits: ClassVar[int] = _DIGITS
    length: ClassVar[int] = _LENGTH
    name: ClassVar[str] = "textarena-mastermind"
    instruction: ClassVar[str] = (
        f"Find a hidden code of {_LENGTH} different digits from 1 to {_DIGITS} in at most 12 "
        "guesses. A black peg stands for a digit in its place, a white peg for a digit that "
        "belongs in another place. Put one code in [brackets] in each answer, like [3 1 2 5]."
    )
    turn_limit: ClassVar[int] = 12
    sizes: ClassVar[Mapping[Fold, int]] = {"train": 400, "dev": 220, "test": 120}
    actions: ClassVar[tuple[str, ...]] = tuple(
        " ".join(map(str, code)) for code in permutations(range(1, _DIGITS + 1), _LENGTH)
    )

    def new(self) -> Any:
        """A game without repeated digits."""
        return MastermindEnv(
            code_length=self.length,
            num_numbers=self.digits,
            max_turns=_NO_LIMIT,
            duplicate_numbers=False,
        )

    def secret(self, env: Any) -> Hashable:
        """The code."""
        return tuple(env.state.game_state["secret_code"])

    def told(self, env: Any) -> str:
        """The pegs."""
        if _slipped(env):
            return "You have guessed that before."
        history = env.state.game_state["history"]
        if not history:
            return "Enter your first guess."
        return f"{history[-1]['black']} black, {history[-1]['white']} white."

    def score(self, env: Any) -> float:
        """Of the last guess."""
        history = env.state.game_state["history"]
        if not history:
            return 0.0
        return float(history[-1]["black"] + history[-1]["white"] / 2) / self.length

    def expert(self, env: Any) -> str | None:
        """The first code in order that would have earned every answer so far."""
        history = env.state.game_state["history"]
        fitting = (
            code
            for code in permutations(range(1, self.digits + 1), self.length)
            if all(pegs(code, past["guess"]) == (past["black"], past["white"]) for past in history)
        )
        code = next(fitting, None)
        return None if code is None else " ".join(map(str, code))


def pegs(code: Sequence[int], guess: Sequence[int]) -> tuple[int, int]:
    """Black and white pegs of a guess, in codes without repeated digits.

    Example:
        >>> pegs((1, 2, 3, 4), (1, 3, 2, 6))
        (1, 2)
    """
    black = sum(one == other for one, other in zip(code, guess, strict=True))
    return black, len(set(code) & set(guess)) - black


class FrozenLake:
    """Walk from corner to corner past the holes; the expert takes a shortest way.

    The return is textarena's: the share of the way that has been made, at most 0.95 before the
    goal; but nothing for a player who has fallen into a hole.
    """

    size: ClassVar[int] = 4
    holes: ClassVar[int] = 5
    name: ClassVar[str] = "textarena-frozenlake"
    instruction: ClassVar[str] = (
        "Walk over a frozen lake from P, where you are, to the goal G in at most 14 steps. A dot "
        "is safe ice; H is a hole, and falling into one loses. Put one of up, down, left, right "
        "in [brackets] in each answer, like [left]."
    )
    turn_limit: ClassVar[int] = 14
    sizes: ClassVar[Mapping[Fold, int]] = {"train": 320, "dev": 200, "test": 100}
    actions: ClassVar[tuple[str, ...]] = ("down", "left", "right", "up")
    steps: ClassVar[Mapping[str, tuple[int, int]]] = {
        "right": (0, 1),
        "down": (1, 0),
        "left": (0, -1),
        "up": (-1, 0),
    }

    def new(self) -> Any:
        """A lake from the upper left corner to the lower right one."""
        return FrozenLakeEnv(size=self.size, num_holes=self.holes)

    def secret(self, env: Any) -> Hashable:
        """The map."""
        return "".join(map("".join, env.state.game_state["grid"]))

    def told(self, env: Any) -> str:
        """The lake, and where the player stands."""
        state = env.state.game_state
        here = tuple(state["player_pos"])
        if state["grid"][here[0]][here[1]] == "H":
            return "You fell into a hole. The game is lost."
        rows = [["." if cell == " " else cell for cell in row] for row in state["grid"]]
        rows[here[0]][here[1]] = "P"
        lake = "\n".join(map(" ".join, rows))
        return f"You cannot leave the lake.\n{lake}" if _slipped(env) else lake

    def score(self, env: Any) -> float:
        """The share of the way."""
        state = env.state.game_state
        row, column = state["player_pos"]
        if state["grid"][row][column] == "H":
            return 0.0
        return max(0.0, min(0.95, float(env._get_percentage_completion())))

    def expert(self, env: Any) -> str | None:
        """The first step of a shortest way; None in a hole."""
        state = env.state.game_state
        grid, start = state["grid"], tuple(state["player_pos"])
        first: dict[tuple[int, int], str] = {start: ""}
        waiting = deque([start])
        while waiting:
            row, column = place = waiting.popleft()
            if grid[row][column] == "H":
                continue
            if grid[row][column] == "G":
                return first[place] or None
            for name, (down, right) in self.steps.items():
                then = (row + down, column + right)
                if then not in first and min(then) >= 0 and max(then) < self.size:
                    first[then] = first[place] or name
                    waiting.append(then)
        return None


class ArenaGame:
    """A game under way."""

    def __init__(self, rules: Rules, seed: int) -> None:
        self._rules = rules
        self._env = begun(rules, seed)
        self._turns = 0
        self._observation = Observation(rules.told(self._env), rules.actions)

    @property
    def observation(self) -> Observation:
        """What the player was told last."""
        return self._observation

    @property
    def score(self) -> float:
        """The return so far, from 0 to 1."""
        return 1.0 if self.succeeded else self._rules.score(self._env)

    @property
    def succeeded(self) -> bool:
        """Whether the secret or the goal has been found."""
        state = self._env.state
        return bool(state.done and state.rewards[0] == 1)

    @property
    def is_over(self) -> bool:
        """Whether the game is won, lost or out of turns."""
        return bool(self._env.state.done) or self._turns >= self._rules.turn_limit

    def act(self, action: str) -> None:
        """Take an action; one that is not listed costs the turn."""
        if self.is_over:
            return
        self._turns += 1
        if action not in self._rules.actions:
            self._observation = Observation(NONSENSE, self._rules.actions)
            return
        self._env.step(f"[{action}]")
        text = "You have won." if self.succeeded else self._rules.told(self._env)
        self._observation = Observation(text, self._rules.actions)

    def expert_action(self) -> str | None:
        """What an expert does now."""
        return None if self.is_over else self._rules.expert(self._env)


class Arena:
    """An environment: the rules of one game, and its tasks."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def name(self) -> str:
        """As in the grid of cells."""
        return self._rules.name

    @property
    def instruction(self) -> str:
        """The system message."""
        return self._rules.instruction

    @property
    def turn_limit(self) -> int:
        """Actions after which a game is over."""
        return self._rules.turn_limit

    def tasks(self, fold: Fold) -> Sequence[str]:
        """Ids of the fold's tasks."""
        return task_ids(fold, self._rules.sizes)

    def start(self, task: str) -> Game:
        """The game of a task."""
        fold, number = place_of(task, self._rules.sizes)
        before = sum(self._rules.sizes[other] for other in FOLDS[: FOLDS.index(fold)])
        return ArenaGame(self._rules, self._seeds[before + number])

    @cached_property
    def _seeds(self) -> list[int]:
        """Seeds of as many distinct secrets as there are tasks."""
        found: dict[Hashable, int] = {}
        for seed in count():
            if len(found) == sum(self._rules.sizes.values()):
                break
            found.setdefault(self._rules.secret(begun(self._rules, seed)), seed)
        return list(found.values())


def _slipped(env: Any) -> bool:
    """Whether textarena refused the last action: a guess made before, a step off the lake."""
    return bool(env.state.error_count)


def begun(rules: Rules, seed: int) -> Any:
    """A game of textarena at its beginning; slips are forgiven there, for they cost turns here."""
    env = rules.new()
    with _own_randomness():
        env.reset(num_players=1, seed=seed)
    env.state.error_allowance = _NO_LIMIT
    return env


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Textarena seeds Python's one generator for all; the state before comes back after."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def environment(name: str) -> Arena:
    """The environment of a name that is known here."""
    rules: tuple[Rules, ...] = (GuessTheNumber(), Mastermind(), FrozenLake())
    return Arena(next(rule for rule in rules if rule.name == name))

"""BabyAI in words: one room of objects, to go to one or to pick it up, seen as the agent sees it.

The grid and the bot are minigrid's; the words are ours.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Final

from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.world_object import Wall, WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import GoToInstr, ObjDesc, PickupInstr
from minigrid.utils.baby_ai_bot import BabyAIBot

from trajweight.bench.environment import FOLDS, Fold, Game, Observation
from trajweight.bench.environments.tasks import NONSENSE, place_of, task_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOM_SIZE: Final = 7  # cells a side, walls counted
N_OBJECTS: Final = 4
TURN_LIMIT: Final = 20
SIZES: Final[Mapping[Fold, int]] = {"train": 400, "dev": 240, "test": 120}

#: Steps from the start to the nearest object that is asked for, at least; what is nearer is found
#: by turning on the spot.
FEWEST_STEPS: Final = 4
_FOLD_SEEDS: Final = 1_000_000  # apart
_TRIES: Final = 100  # seeds of a task, of which the first that is far enough is taken

_MOVES: Final[Mapping[str, str]] = {
    "turn left": "left",
    "turn right": "right",
    "go forward": "forward",
    "pick up": "pickup",
    "drop": "drop",
}
_GOING: Final = ("go forward", "turn left", "turn right")
_CARRYING: Final = ("drop", "go forward", "pick up", "turn left", "turn right")


class OneRoom(RoomGridLevel):
    """A room with objects, one of which (or one like it) is to be reached or picked up."""

    def __init__(self, instruction: type[GoToInstr | PickupInstr]) -> None:
        self._instruction = instruction
        super().__init__(num_rows=1, num_cols=1, room_size=ROOM_SIZE)

    def gen_mission(self) -> None:
        """Places the agent and the objects, and draws what is asked for."""
        room: Any = self  # untyped in minigrid
        room.place_agent()
        found = room.add_distractors(num_distractors=N_OBJECTS, all_unique=False)
        room.check_objs_reachable()
        chosen = room._rand_elem(found)
        self.instrs = self._instruction(ObjDesc(chosen.type, chosen.color))

    def begin(self, seed: int) -> None:
        """Draws a room; minigrid tells the terminal of those that it throws away."""
        room: Any = self
        with contextlib.redirect_stdout(io.StringIO()):
            room.reset(seed=seed)

    @property
    def steps_to_target(self) -> int:
        """From the agent to the nearest object that is asked for, in a straight line."""
        x, y = self.agent_pos
        places = self.instrs.desc.obj_poss
        return min(abs(int(x) - int(a)) + abs(int(y) - int(b)) for a, b in places)


class RoomGame:
    """A game under way."""

    def __init__(self, room: OneRoom, actions: tuple[str, ...]) -> None:
        self._room: Any = room
        self._actions = actions
        self._turns = 0
        self._reward = 0.0
        self._bot, self._bot_is_new = BabyAIBot(room), True
        self._advice = self._advised(None)
        self._observation = self._told(f"Your task: {room.mission}.")

    @property
    def observation(self) -> Observation:
        """What the player was told last."""
        return self._observation

    @property
    def score(self) -> float:
        """BabyAI's: for a goal that is reached, the more the sooner; else 0."""
        return self._reward

    @property
    def succeeded(self) -> bool:
        """Whether the object has been reached or picked up."""
        return self._reward > 0

    @property
    def is_over(self) -> bool:
        """Whether the goal is reached or time is up."""
        return self.succeeded or self._turns >= TURN_LIMIT

    def act(self, action: str) -> None:
        """Take an action; one that is not listed costs the turn."""
        if self.is_over:
            return
        self._turns += 1
        known = action in self._actions
        move = self._room.actions[_MOVES[action] if known else "done"]  # done does nothing
        before = self._state()
        _, reward, done, _, _ = self._room.step(move)
        self._reward = max(0.0, min(1.0, float(reward))) if done else 0.0
        if self.succeeded:
            self._observation = Observation("You have done it.", self._actions)
            return
        self._advice = self._advised(move)
        if not known:
            self._observation = self._told(NONSENSE)
        elif self._state() == before:
            self._observation = self._told(_IN_VAIN[action])
        else:
            self._observation = self._told("")

    def expert_action(self) -> str | None:
        """What the bot of BabyAI would do, knowing what has been seen so far."""
        return None if self.is_over else self._advice

    def _state(self) -> tuple[Any, ...]:
        room = self._room
        return (*map(int, room.agent_pos), room.agent_dir, room.carrying)

    def _advised(self, taken: Any) -> str | None:
        """The bot's advice; asked for every turn, as it remembers what it has seen."""
        if (carried := self._room.carrying) is not None and "drop" in self._actions:
            # the bot gives up with full hands; it is asked anew when they are empty
            wanted = self._room.instrs.desc.obj_set
            if not any(carried is other for other in wanted):
                self._forget_the_plan()
                free = self._room.grid.get(*self._room.front_pos) is None
                return "drop" if free else "turn left"
        try:
            move = self._bot.replan(None if self._bot_is_new else taken)
        except AssertionError:  # its plan no longer fits: ask a fresh one
            self._forget_the_plan()
            try:
                move = self._bot.replan()
            except AssertionError:
                return None
        self._bot_is_new = False
        return next((name for name in self._actions if _MOVES[name] == move.name), None)

    def _forget_the_plan(self) -> None:
        """A bot without a plan that remembers what the last one saw."""
        seen = self._bot.vis_mask
        self._bot, self._bot_is_new = BabyAIBot(self._room), True
        self._bot.vis_mask = seen

    def _told(self, first: str) -> Observation:
        """What the agent sees: objects by their way from it, and the wall before it."""
        view: Any
        view, mask = self._room.gen_obs_grid()
        middle, bottom = view.width // 2, view.height - 1
        seen = []
        for ahead in range(view.height):
            for column in sorted(range(view.width), key=lambda at: abs(at - middle)):
                thing = view.get(column, bottom - ahead)
                is_here = ahead == 0 and column == middle  # shown there when it is carried
                if mask[column, bottom - ahead] and _is_object(thing) and not is_here:
                    seen.append(f"{_named(thing)} {_way(ahead, column - middle)}")
        wall = next(
            (n for n in range(1, view.height) if isinstance(view.get(middle, bottom - n), Wall)),
            None,
        )
        hidden = wall is None or not mask[middle, bottom - wall]
        parts = [
            first,
            f"You carry {_named(self._room.carrying)}." if self._room.carrying else "",
            f"You see {'; '.join(seen)}." if seen else "You see no object.",
            "" if hidden else f"The wall is {wall} ahead.",
        ]
        return Observation(" ".join(part for part in parts if part), self._actions)


_IN_VAIN: Final[Mapping[str, str]] = {
    "go forward": "The way is blocked.",
    "pick up": "You cannot pick up anything.",
    "drop": "You cannot drop anything here.",
}


def _is_object(thing: WorldObj | None) -> bool:
    return thing is not None and OBJECT_TO_IDX[thing.type] in _OBJECTS


_OBJECTS: Final = frozenset(OBJECT_TO_IDX[kind] for kind in ("ball", "box", "key"))


def _named(thing: Any) -> str:
    return f"a {thing.color} {thing.type}"


def _way(ahead: int, right: int) -> str:
    """Where a thing is.

    Example:
        >>> _way(2, -1), _way(1, 0)
        ('2 ahead and 1 left', '1 ahead')
    """
    parts = [f"{ahead} ahead"] if ahead else []
    if right:
        parts.append(f"{abs(right)} {'right' if right > 0 else 'left'}")
    return " and ".join(parts)


class BabyAI:
    """An environment: a kind of instruction, and rooms by seeds that the folds do not share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kind: type[GoToInstr | PickupInstr]
        self._kind, self._actions = _LEVELS[name]

    @property
    def instruction(self) -> str:
        """The system message."""
        return _INSTRUCTIONS[self.name]

    @property
    def turn_limit(self) -> int:
        """Actions after which a game is over."""
        return TURN_LIMIT

    def tasks(self, fold: Fold) -> Sequence[str]:
        """Ids of the fold's tasks."""
        return task_ids(fold, SIZES)

    def start(self, task: str) -> Game:
        """The game of a task."""
        fold, number = place_of(task, SIZES)
        first = FOLDS.index(fold) * _FOLD_SEEDS + number * _TRIES
        room = OneRoom(self._kind)
        for seed in range(first, first + _TRIES):
            room.begin(seed)
            if room.steps_to_target >= FEWEST_STEPS:
                break
        return RoomGame(room, self._actions)


_LEVELS: Final[Mapping[str, tuple[type[GoToInstr | PickupInstr], tuple[str, ...]]]] = {
    "babyai-goto": (GoToInstr, _GOING),
    "babyai-pickup": (PickupInstr, _CARRYING),
}
_INSTRUCTIONS: Final[Mapping[str, str]] = {
    "babyai-goto": (
        "You are in a room and see what is before you; distances are in steps. Go next to the "
        f"object of your task and face it, in at most {TURN_LIMIT} actions. Put one of go forward, "
        "turn left, turn right in [brackets] in each answer."
    ),
    "babyai-pickup": (
        "You are in a room and see what is before you; distances are in steps. Face the object of "
        f"your task from the next cell and pick it up, in at most {TURN_LIMIT} actions. Put one of "
        "go forward, turn left, turn right, pick up, drop in [brackets] in each answer."
    ),
}


def environment(name: str) -> BabyAI:
    """The environment of a name that is known here."""
    return BabyAI(name)

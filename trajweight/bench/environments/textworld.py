"""Three games of TextWorldExpress in fewer words: find a coin, read a map, cook a meal.

The games and their folds are the package's; it runs them in Java, in one process that is started
with the first game and ends with ours. Rooms are told in our words, about a third as many. The
package knows a winning path from the start alone, so the experts are ours: they act on what the
player has been told, from wherever the player has got to.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import weakref
from collections import deque
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import orjson
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from textworld_express.constants import BASEPATH, JAR_PATH

from trajweight.bench.environment import FOLDS, Fold, Game, Observation
from trajweight.bench.environments.tasks import NONSENSE, place_of, task_ids
from trajweight.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SIZES: Final[Mapping[Fold, int]] = {"train": 400, "dev": 240, "test": 120}
_FIRST_SEEDS: Final[Mapping[Fold, int]] = {"train": 0, "dev": 10_000, "test": 20_000}
_FOLD_LENGTH: Final = 1_000

_EXIT = re.compile(r"To the (North|South|East|West) you see the ([^.]+)\.")
_THING = re.compile(
    r"(?:In (?:one|another) part of the room you see|There is also|You also see) ([^.]+)\."
)
_EMPTY = re.compile(r",? that (?:has nothing on it|is empty)$")
_CLOSED = re.compile(r"^an? (.+) that is closed$")
_ROOM = re.compile(r"^You are in the ([^.]+)\.")
_LINK = re.compile(r"The ([\w ]+?) connects to the ([^.]+)\.")
_ERRAND = re.compile(r"located in the ([^,.]+), and put it into the box found in the ([^,.]+)\.")
_STEP = re.compile(r"^(\w+) the (.+)$")


def has_java() -> bool:
    """Whether there is a Java to run the games in."""
    return shutil.which("java") is not None


@dataclass(slots=True)
class Notes:
    """What the player has been told so far.

    Attributes:
        task: What to do, in the game's words.
        here: The room where the player stands.
        look: What stands here, in the game's words.
        carried: What the player holds: each thing's name with its adjectives.
        actions: What may be done now.
        exits: Of each room that was visited, the neighbours with their directions.
        links: Of each room on the map, its neighbours; empty until it is read.
        ingredients: Of the recipe; empty until it is read.
        directions: Pairs of verb and ingredient; empty until the recipe is read.
        opened: Containers that have been opened.
    """

    task: str
    here: str = ""
    look: str = ""
    carried: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    exits: dict[str, dict[str, str]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    ingredients: tuple[str, ...] = ()
    directions: tuple[tuple[str, str], ...] = ()
    opened: set[str] = field(default_factory=set)

    def take_in(self, told: Mapping[str, Any]) -> None:
        """Adds what one answer of the game says."""
        self.look = told["look"]
        self.actions = tuple(sorted(told["validActions"]))
        lines = told["inventory"].strip().splitlines()[1:]
        self.carried = tuple(re.sub(r"^(?:an?|some) ", "", line.strip()) for line in lines)
        if room := _ROOM.match(self.look):
            self.here = room[1]
            self.exits[self.here] = {to: way.lower() for way, to in _EXIT.findall(self.look)}
        answer = told["observation"]
        for room_name, others in _LINK.findall(answer):
            self.links[room_name] = re.split(r", | and ", others)
        if "Directions:" in answer:
            first, second = answer.split("Directions:")
            listed = first.split("Ingredients:")[1]
            self.ingredients = tuple(line.strip() for line in listed.splitlines() if line.strip())
            steps = (_STEP.match(line.strip()) for line in second.splitlines())
            self.directions = tuple((step[1], step[2]) for step in steps if step)

    def way_to(self, goals: Iterable[str]) -> str | None:
        """The first step of a shortest known way to a goal, or else to a room not yet seen."""
        goals = set(goals)
        first, order = {self.here: ""}, [self.here]
        waiting = deque(order)
        while waiting:
            room = waiting.popleft()
            for other in [*self.exits.get(room, ()), *self.links.get(room, ())]:
                if other not in first:
                    first[other] = first[room] or self.exits[self.here].get(other, "")
                    waiting.append(other)
                    order.append(other)
        known = [room for room in order if room in goals and first[room]]
        unseen = [room for room in order if room not in self.exits and first[room]]
        chosen = next(iter(known or unseen), None)
        return None if chosen is None else f"move {first[chosen]}"


def find_the_coin(notes: Notes) -> str | None:
    """Takes the coin where it is seen; else goes to the nearest room not yet visited."""
    return "take coin" if "take coin" in notes.actions else notes.way_to(())


def run_the_errand(notes: Notes) -> str | None:
    """Reads the map, fetches the coin, brings it to the box."""
    errand = _ERRAND.search(notes.task)
    if errand is None:
        return None
    for action in ("put coin in box", "take coin"):
        if action in notes.actions:
            return action
    if not notes.links and "read map" in notes.actions:
        return "read map"
    return notes.way_to([errand[2] if "coin" in notes.carried else errand[1]])


#: Where each way of cooking is done, best first, and how what was cooked is called.
_COOKED: Final = {
    "fry": ("fried", ("stove",)),
    "roast": ("roasted", ("oven",)),
    "grill": ("grilled", ("toaster", "barbeque")),
}
_CUT: Final = {"slice": "sliced", "dice": "diced", "chop": "chopped"}


def cook_the_meal(notes: Notes) -> str | None:
    """Reads the recipe, gathers what it asks for, follows it, eats."""
    can = set(notes.actions)
    if "eat meal" in can:
        return "eat meal"
    if not notes.ingredients:
        return "read cookbook" if "read cookbook" in can else _open_next(notes)
    if "prepare meal" in can:
        return "prepare meal"
    for thing in notes.ingredients:
        if not any(held.endswith(thing) for held in notes.carried):
            return f"take {thing}" if f"take {thing}" in can else _open_next(notes)
    for verb, thing in notes.directions:
        held = next(name for name in notes.carried if name.endswith(thing))
        if verb in _CUT and _CUT[verb] not in held.split():
            if (cut := f"{verb} {thing}") in can:
                return cut
            return "take knife" if "take knife" in can else _open_next(notes)
        if verb in _COOKED and _COOKED[verb][0] not in held.split():
            ways = (f"cook {thing} in {tool}" for tool in _COOKED[verb][1])
            return next((way for way in ways if way in can), None)
    return None


def _open_next(notes: Notes) -> str | None:
    """Opens a container that was not opened before, the fridge first."""
    closed = [action for action in notes.actions if action.startswith("open ")]
    closed.sort(key=lambda action: (action != "open fridge", action == "open trash can", action))
    return next((action for action in closed if action not in notes.opened), None)


@dataclass(frozen=True)
class Kind:
    """One of the package's games, with our knobs.

    Attributes:
        game: The package's name for it.
        parameters: In the package's words.
        instruction: The system message.
        turn_limit: Actions after which a game is over.
        fewest: Actions of the expert, at least; shorter games are left out.
        tells_task: Whether the game's own words for the task, which come before the first room,
            say more than the instruction.
        expert: What an expert does.
    """

    game: str
    parameters: str
    instruction: str
    turn_limit: int
    fewest: int
    tells_task: bool
    expert: Callable[[Notes], str | None]


KINDS: Final[Mapping[str, Kind]] = {
    "textworld-coin": Kind(
        game="coin",
        parameters="numLocations=8,includeDoors=0,numDistractorItems=0,limitInventorySize=0",
        instruction=(
            "Search the rooms for a coin and take it, in at most 16 actions. Actions are like "
            "move north, take coin, look around, inventory. Put one action in [brackets] in each "
            "answer."
        ),
        turn_limit=16,
        fewest=5,
        tells_task=False,
        expert=find_the_coin,
    ),
    "textworld-mapreader": Kind(
        game="mapreader",
        parameters=(
            "numLocations=6,maxDistanceApart=3,includeDoors=0,maxDistractorItemsPerLocation=0"
        ),
        instruction=(
            "Fetch a coin and put it into a box, in at most 20 actions; a map helps. Actions are "
            "like read map, move north, take coin, put coin in box, look around, inventory, task. "
            "Put one action in [brackets] in each answer."
        ),
        turn_limit=20,
        fewest=4,
        tells_task=True,
        expert=run_the_errand,
    ),
    "textworld-cookingworld": Kind(
        game="cookingworld",
        parameters=(
            "numLocations=1,numIngredients=2,numDistractorItems=2,includeDoors=0,"
            "limitInventorySize=0"
        ),
        instruction=(
            "Cook the meal of the cookbook and eat it, in at most 20 actions. Actions are like "
            "read cookbook, open fridge, take knife, slice carrot, cook carrot in stove, prepare "
            "meal, eat meal. Stoves fry, ovens roast, toasters grill; what is spoilt is lost. Put "
            "one action in [brackets] in each answer."
        ),
        turn_limit=20,
        fewest=4,
        tells_task=False,
        expert=cook_the_meal,
    ),
}


class TextWorldGame:
    """A game under way."""

    def __init__(self, kind: Kind, world: Any, fold: Fold, seed: int) -> None:
        self._kind = kind
        self._world: Any = world
        self._turns = 0
        told = orjson.loads(world.generateNewGameJSON(seed, fold, False))
        self._notes = Notes(task=" ".join(world.getTaskDescription().split()))
        self._learn(told)
        task = f"{self._notes.task} " if kind.tells_task else ""
        first = f"{task}{in_short(told['observation'])}"
        self._observation = Observation(first, self._notes.actions)

    @property
    def observation(self) -> Observation:
        """What the player was told last."""
        return self._observation

    @property
    def score(self) -> float:
        """The share of the package's points, from 0 to 1."""
        return self._score

    @property
    def succeeded(self) -> bool:
        """Whether the task is done."""
        return self._succeeded

    @property
    def is_over(self) -> bool:
        """Whether the task is done or spoilt, or time is up."""
        return self._succeeded or self._failed or self._turns >= self._kind.turn_limit

    def act(self, action: str) -> None:
        """Take an action; one that is not listed costs the turn."""
        if self.is_over:
            return
        self._turns += 1
        if action not in self._notes.actions:
            self._observation = Observation(NONSENSE, self._notes.actions)
            return
        told = orjson.loads(self._world.stepJSON(action))
        if action.startswith("open "):
            self._notes.opened.add(action)
        self._learn(told)
        text = in_short(told["observation"])
        if self._succeeded:
            text += " You have done it."
        elif self._failed:
            text += " The task is spoilt: you have lost."
        self._observation = Observation(text, self._notes.actions)

    def expert_action(self) -> str | None:
        """What an expert does who knows what the player was told."""
        return None if self.is_over else self._kind.expert(self._notes)

    def _learn(self, told: Mapping[str, Any]) -> None:
        self._score = max(0.0, min(1.0, float(told["score"])))
        self._succeeded = bool(told["tasksuccess"])
        self._failed = bool(told["taskfailure"])
        self._notes.take_in(told)


def in_short(text: str) -> str:
    r"""The game's answer in fewer words.

    Example:
        >>> in_short(
        ...     "You are in the pantry. In one part of the room you see a shelf, that has "
        ...     "nothing on it. There is also a fridge that is closed. \n"
        ...     "To the South you see the kitchen. "
        ... )
        'You are in the pantry. You see a shelf; a closed fridge. South: kitchen.'
    """
    room = _ROOM.match(text)
    if room:
        things = [
            _CLOSED.sub(r"a closed \1", _EMPTY.sub("", thing)) for thing in _THING.findall(text)
        ]
        exits = [f"{way}: {to}." for way, to in _EXIT.findall(text)]
        seen = [f"You see {'; '.join(things)}."] if things else []
        return " ".join([room[0], *seen, *exits])
    if text.startswith("Gather all"):
        lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
        return "; ".join(lines).replace(":; ", ": ").replace("; Directions", ". Directions") + "."
    if text.startswith("Inventory"):
        lines = [line.strip() for line in text.strip().splitlines()[1:]]
        return lines[0] if lines[0].endswith(".") else f"You carry {'; '.join(lines)}."
    return " ".join(text.split())


def expert_told(game: TextWorldGame) -> tuple[str, ...]:
    """All that the expert is told in a game, to its end."""
    told = [game.observation.text]
    while (action := game.expert_action()) is not None:
        game.act(action)
        told.append(game.observation.text)
    return tuple(told)


class TextWorld:
    """An environment: one kind of game, in the package's folds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kind = KINDS[name]
        self._idle: list[Any] = []  # worlds whose game is forgotten; loading one takes 0.1 s

    @property
    def instruction(self) -> str:
        """The system message."""
        return self._kind.instruction

    @property
    def turn_limit(self) -> int:
        """Actions after which a game is over."""
        return self._kind.turn_limit

    def tasks(self, fold: Fold) -> Sequence[str]:
        """Ids of the fold's tasks."""
        return task_ids(fold, SIZES)

    def start(self, task: str) -> Game:
        """The game of a task."""
        fold, number = place_of(task, SIZES)
        world = self._idle.pop() if self._idle else self._loaded()
        game = TextWorldGame(self._kind, world, fold, self._seeds[fold][number])
        weakref.finalize(game, self._idle.append, world).atexit = False
        return game

    @cached_property
    def _seeds(self) -> Mapping[Fold, Sequence[int]]:
        """Seeds of games that the expert wins, none too short, each once in all folds.

        Two games are one where the expert is told the same in both: a coin may lie near the start
        of two worlds that differ only far from it.
        """
        world, seen = self._loaded(), set()
        found: dict[Fold, list[int]] = {}
        for fold in FOLDS:
            seeds = iter(range(_FIRST_SEEDS[fold], _FIRST_SEEDS[fold] + _FOLD_LENGTH))
            found[fold] = []
            while len(found[fold]) < SIZES[fold]:
                seed = next(seeds)
                game = TextWorldGame(self._kind, world, fold, seed)
                told = expert_told(game)
                is_long_enough = len(told) > self._kind.fewest
                if game.succeeded and is_long_enough and told not in seen:
                    seen.add(told)
                    found[fold].append(seed)
        self._idle.append(world)
        return found

    def _loaded(self) -> Any:
        world = _java(os.getpid()).jvm.textworldexpress.runtime.PythonInterface()
        world.load(self._kind.game, self._kind.parameters)
        return world


@cache
def _java(_process: int) -> JavaGateway:
    """The Java process of a process of ours; silent, and ended when ours ends."""
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    port, java = launch_gateway(
        classpath=JAR_PATH, cwd=BASEPATH, javaopts=options, die_on_exit=True, return_proc=True
    )
    gateway = JavaGateway(
        gateway_parameters=GatewayParameters(port=port, auto_field=True), java_process=java
    )
    atexit.register(_end, gateway, java)
    return gateway


def _end(gateway: JavaGateway, java: Any) -> None:
    gateway.shutdown()
    java.stdin.close()
    java.wait()


def environment(name: str) -> TextWorld:
    """The environment of a name that is known here.

    Raises:
        MissingError: If there is no Java.
    """
    if not has_java():
        why = f"the environment {name} runs in Java, which is not installed"
        raise MissingError(why, hint="Install a Java runtime, 8 or later: apt install default-jre")
    return TextWorld(name)

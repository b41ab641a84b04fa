"""Laws of every environment: its expert wins, its tasks repeat, its folds share nothing."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from functools import cache
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from trajweight.bench.environment import FOLDS
from trajweight.bench.environments import ENVIRONMENTS, environment
from trajweight.bench.environments.textarena import pegs
from trajweight.bench.environments.textworld import has_java
from trajweight.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.bench.environment import Environment, Game

needs_java = pytest.mark.skipif(not has_java(), reason="TextWorldExpress runs in Java")
NAMES = [
    pytest.param(name, marks=needs_java if name.startswith("textworld") else ())
    for name in ENVIRONMENTS
]
every_environment = pytest.mark.parametrize("name", NAMES)

N_TASKS = 20
NONSENSE = ("", "dance", "GO FORWARD", "9" * 300, "take coin]", "\n", "[", "naïve ☃", "None", "0")


@cache
def made(name: str) -> Environment:
    return environment(name)


def some_tasks(name: str, fold) -> list[str]:
    """The first ones and the last."""
    tasks = made(name).tasks(fold)
    return [*tasks[: N_TASKS - 1], tasks[-1]]


def offered(game: Game) -> tuple[str, ...]:
    actions = game.observation.actions
    assert actions is not None  # all of these environments list them
    return actions


def finish(game: Game, choose: Callable[[Game], str | None]) -> list[str]:
    """Plays on until the game is over or nothing is chosen; gives all that was done and told."""
    told = [game.observation.text]
    while not game.is_over and (action := choose(game)) is not None:
        game.act(action)
        told += [action, game.observation.text]
    return told


def by_expert(game: Game) -> str | None:
    return game.expert_action()


def at_random(seed: int) -> Callable[[Game], str]:
    rng = Random(seed)
    return lambda game: rng.choice(offered(game))


def wins(game: Game, choose: Callable[[Game], str | None]) -> bool:
    finish(game, choose)
    return game.succeeded


@every_environment
@pytest.mark.parametrize("fold", FOLDS)
def test_the_expert_wins_with_listed_actions_and_turns_to_spare(name, fold):
    env = made(name)
    for task in some_tasks(name, fold):
        game = env.start(task)
        n_actions = 0
        while not game.is_over:
            action = game.expert_action()
            assert action is not None
            assert action in offered(game)
            assert not game.succeeded
            game.act(action)
            n_actions += 1

        assert game.succeeded, task
        assert 2 <= n_actions <= env.turn_limit, task
        assert 0.5 < game.score <= 1, task
        assert game.expert_action() is None


@every_environment
def test_a_task_and_its_actions_fix_every_byte(name):
    env, other = made(name), environment(name)
    for number in range(5):
        task = f"dev/{number}"
        played = finish(env.start(task), at_random(number))
        env.start("train/1").act("anything")

        assert finish(other.start(task), at_random(number)) == played


@every_environment
def test_two_games_at_once_do_not_disturb_each_other(name):
    env = made(name)
    alone = [finish(env.start(task), by_expert) for task in ("dev/0", "dev/1")]
    games = [env.start("dev/0"), env.start("dev/1")]
    together = [[game.observation.text] for game in games]

    while not all(game.is_over for game in games):
        for game, told in zip(games, together, strict=True):
            if (action := game.expert_action()) is not None:
                game.act(action)
                told += [action, game.observation.text]

    assert together == alone


@every_environment
def test_no_game_of_one_fold_is_in_another(name):
    env = made(name)
    n_looked = 400 if name == "textworld-coin" else 60  # there the package's own folds share some
    games = {
        fold: {"\n".join(finish(env.start(task), by_expert)) for task in env.tasks(fold)[:n_looked]}
        for fold in FOLDS
    }
    ids = {task for fold in FOLDS for task in env.tasks(fold)}

    assert len(ids) == sum(len(env.tasks(fold)) for fold in FOLDS)
    assert all(len(found) >= 59 for found in games.values())  # BabyAI may repeat one in a fold
    assert len(set.union(*games.values())) == sum(map(len, games.values()))


@every_environment
def test_playing_at_random_rarely_wins(name):
    env = made(name)
    games = [env.start(task) for task in env.tasks("test")[:40]]
    for seed, game in enumerate(games):
        finish(game, at_random(seed))

    assert fmean(game.succeeded for game in games) <= 0.25
    assert fmean(game.score for game in games) <= 0.45
    assert all(game.is_over for game in games)


@every_environment
def test_the_expert_finds_back_after_two_wrong_actions(name):
    env = made(name)
    n_won = n_left = 0
    for number, task in enumerate(some_tasks(name, "train")):
        game, rng = env.start(task), Random(number)
        for _ in range(2):
            wrong = [action for action in offered(game) if action != game.expert_action()]
            game.act(rng.choice(wrong))
        if not game.is_over:  # a hole in the ice or a burnt meal cannot be mended
            n_left += 1
            n_won += wins(game, by_expert)

    assert n_left >= N_TASKS // 3
    assert n_won >= 0.9 * n_left


@every_environment
def test_scores_stay_within_their_range_and_reach_the_goal_with_success_only(name):
    env = made(name)
    for number in range(12):
        game, rng = env.start(f"train/{number}"), Random(number)
        while not game.is_over:
            assert 0 <= game.score < 1
            helped = game.expert_action() if rng.random() < 0.7 else None
            game.act(helped or rng.choice(offered(game)))

        assert 0 <= game.score <= 1
        assert game.succeeded or game.score < 1
        final = game.observation, game.score, game.succeeded
        game.act(offered(game)[0])
        assert (game.observation, game.score, game.succeeded) == final


@every_environment
def test_what_makes_no_sense_costs_a_turn_and_is_told(name):
    env = made(name)
    game = env.start("test/3")
    patient = env.start("test/3")
    for n_turns in range(env.turn_limit):
        assert not game.is_over
        nonsense = NONSENSE[n_turns % len(NONSENSE)]
        assert nonsense not in offered(game)
        game.act(nonsense)
        assert "no action you can take" in game.observation.text

    assert game.is_over
    assert not game.succeeded
    assert game.expert_action() is None
    patient.act("dance")
    assert wins(patient, by_expert)


@every_environment
def test_every_listed_action_is_understood_and_they_stand_in_no_telling_order(name):
    env = made(name)
    actions = offered(env.start("dev/2"))
    assert len(set(actions)) == len(actions)
    assert list(actions) in (sorted(actions), sorted(actions, key=_as_numbers))
    for action in actions[:: max(1, len(actions) // 25)]:
        game = env.start("dev/2")
        game.act(action)
        assert "no action you can take" not in game.observation.text
        assert "not sure what you mean" not in game.observation.text


def _as_numbers(action: str) -> list[int]:
    return [int(part) if part.isdecimal() else 0 for part in action.split()]


@every_environment
def test_texts_are_short_and_say_how_to_answer(name):
    env = made(name)
    n_words = []
    for task in some_tasks(name, "dev"):
        told = finish(env.start(task), by_expert)
        n_words.append(sum(len(text.split()) for text in told))
        assert all(text.strip() for text in told)
        assert max(len(text.split()) for text in told) <= 90

    assert "[brackets]" in env.instruction
    assert str(env.turn_limit) in env.instruction
    assert len(env.instruction.split()) <= 60
    assert fmean(n_words) <= 350


@every_environment
def test_the_state_of_chance_outside_is_left_alone(name):
    env = made(name)
    before = random.getstate()
    finish(env.start("train/4"), by_expert)

    assert random.getstate() == before


@every_environment
@pytest.mark.parametrize("task", ["", "train", "train/", "train/-1", "train/01", "exam/0", "dev/²"])
def test_a_task_that_does_not_exist_is_refused_by_name(name, task):
    with pytest.raises(ConfigError, match=re.escape(repr(task))) as caught:
        made(name).start(task)

    assert "train/0 to train/" in caught.value.hint


def test_environments_know_their_names_and_size_up_for_a_study():
    for name in ENVIRONMENTS:
        if has_java() or not name.startswith("textworld"):
            env = made(name)
            assert env.name == name
            assert len(env.tasks("train")) >= 200
            assert len(env.tasks("dev")) >= 200
            assert len(env.tasks("test")) >= 100


def test_an_unknown_environment_is_refused_with_the_known_names():
    with pytest.raises(ConfigError, match="'chess'") as caught:
        environment("chess")

    assert all(name in caught.value.hint for name in ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_package_that_is_missing_is_named_with_its_remedy(name, monkeypatch):
    package = {"textworld": "textworld_express", "babyai": "minigrid", "textarena": "textarena"}
    family = name.split("-")[0]
    for module in list(sys.modules):
        if module.split(".")[0] == package[family] or module.endswith(f"environments.{family}"):
            monkeypatch.delitem(sys.modules, module)

    class Absent:
        def find_spec(self, wanted, path=None, target=None):
            if wanted.split(".")[0] == package[family]:
                raise ModuleNotFoundError(name=wanted)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])

    with pytest.raises(MissingError, match=name) as caught:
        environment(name)

    assert caught.value.hint == "pip install 'trajweight[bench]'"


def test_java_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingError, match="Java") as caught:
        environment("textworld-coin")

    assert "Java" in caught.value.hint


@needs_java
def test_a_process_ends_silently_and_takes_its_java_along():
    program = (
        "from trajweight.bench.environments import environment\n"
        "from trajweight.bench.environments import textworld as module\n"
        "import os\n"
        "module.TextWorld._seeds = {'train': [3]}\n"
        "for name in ('textworld-coin', 'babyai-goto'):\n"
        "    game = environment(name).start('train/0')\n"
        "    game.act(game.expert_action())\n"
        "print(module._java(os.getpid()).java_process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    (java,) = done.stdout.split()

    assert done.stderr == ""
    assert subprocess.run(["ps", "-p", java], capture_output=True, check=False).returncode == 1


def test_guessing_is_paid_by_the_share_of_the_numbers_that_are_ruled_out():
    game = made("textarena-guess").start("train/0")
    left = list(range(1, 501))
    for guess in (100, 400, 100, 250, 251):
        told = ""
        if not game.is_over:
            game.act(str(guess))
            told = game.observation.text
        if "higher" in told:
            left = [number for number in left if number > guess]
        elif "lower" in told:
            left = [number for number in left if number < guess]
        expected = 1 - math.log(len(left) + 1) / math.log(501)

        assert game.score == pytest.approx(1.0 if game.succeeded else expected)


def test_pegs_agree_with_the_package_on_every_code_that_is_tried():
    game = made("textarena-mastermind").start("train/5")
    secret = finish(made("textarena-mastermind").start("train/5"), by_expert)[-2]
    rng = random.Random(5)
    while not game.is_over:
        guess = rng.choice(offered(game))
        game.act(guess)
        black, white = pegs(list(map(int, secret.split())), list(map(int, guess.split())))

        assert game.observation.text in (
            f"{black} black, {white} white.",
            "You have guessed that before.",
            "You have won.",
        )


def test_the_lake_is_crossed_by_a_shortest_way_from_anywhere():
    env = made("textarena-frozenlake")
    for number in range(20):
        game, rng = env.start(f"train/{number}"), Random(number)
        for _ in range(2):
            game.act(rng.choice(offered(game)))
        if game.is_over or game.expert_action() is None:
            continue
        rows = game.observation.text.splitlines()[-4:]
        lake = {(y, x): cell for y, row in enumerate(rows) for x, cell in enumerate(row.split())}
        # the slow twin: distances grow by one until the goal is reached
        reached, n_steps = {place for place, cell in lake.items() if cell == "P"}, 0
        while not any(lake[place] == "G" for place in reached):
            steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
            near = {(y + down, x + right) for y, x in reached for down, right in steps}
            reached |= {place for place in near if lake.get(place, "H") != "H"}
            n_steps += 1

        n_played = (len(finish(game, by_expert)) - 1) // 2

        assert game.succeeded
        assert n_played == n_steps

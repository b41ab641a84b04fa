"""Makes the sample data: number guessing in textarena, played well and badly.

    pip install textarena==0.7.4
    python sample_data/make.py            # writes real.jsonl and synthetic.jsonl beside this file

The same version and seeds give the same bytes. Real rows are a scripted expert that halves the
interval; synthetic rows are seven sources of different worth. ``quality`` says whether a row is
worth imitating; training never reads it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textarena.envs.Blackjack.env import BlackjackEnv
from textarena.envs.GuessTheNumber.env import GuessTheNumberEnv

HIGHEST, TURN_LIMIT = 50, 10
FIRST_GUESS = 25  # a secret that every source hits at once tells nothing about its quality
REAL_SEEDS = range(4_000)
SYNTHETIC_SEEDS = range(10_000, 40_000)
REAL_ROWS = 68
SYSTEM = "Guess the number from 1 to 50. Put each guess in [brackets]."
OPENING = "Enter your guess."
BLACKJACK_SYSTEM = "Play blackjack against the dealer. Answer [Hit] or [Stand]."

BARE = "[{}]"
REAL_WORDING = (BARE, "I guess [{}].", "My guess is [{}].")
OTHER_WORDING = ("Let us try [{}].", "How about [{}]?", "Could it be [{}]?")
LONG_WORDING = ("My guess is [{}].", "I guess [{}].")

History = list[tuple[int, str]]
Policy = Callable[[History, random.Random], int]


@dataclass(frozen=True)
class Source:
    """A maker of synthetic trajectories.

    Attributes:
        name: Written to the field ``source``.
        quality: 1.0 when its rows are worth imitating, else 0.0.
        rows: How many distinct rows to make.
        policy: Chooses the next guess from the guesses and hints so far.
        wording: Sentences to put a guess in; one is drawn for each episode.
        turns: Fewest and most guesses before the maker gives up.
    """

    name: str
    quality: float
    rows: int
    policy: Policy
    wording: tuple[str, ...]
    turns: tuple[int, int] = (TURN_LIMIT, TURN_LIMIT)


def halve(history: History, _: random.Random) -> int:
    """The middle of what the hints leave: the expert's rule."""
    low, high = interval(history)
    return (low + high) // 2


def go_wrong(history: History, rng: random.Random) -> int:
    """Any number, then any number on the side that the last hint has just excluded."""
    barred = {guess for guess, _ in history}
    if history:
        last, hint = history[-1]
        barred.update(range(last, HIGHEST + 1) if hint == "higher" else range(1, last))
    return draw(barred, rng)


def ignore_feedback(history: History, rng: random.Random) -> int:
    """Any number not yet named, whatever the hints say."""
    return draw({guess for guess, _ in history}, rng)


def interval(history: History) -> tuple[int, int]:
    """Lowest and highest number that the hints leave."""
    low, high = 1, HIGHEST
    for guess, hint in history:
        if hint == "higher":
            low = max(low, guess + 1)
        else:
            high = min(high, guess - 1)
    return low, high


def draw(barred: set[int], rng: random.Random) -> int:
    """A number that is not barred; any number when all are."""
    numbers = range(1, HIGHEST + 1)
    return rng.choice([number for number in numbers if number not in barred] or numbers)


SOURCES = (
    Source("expert-sim", 1.0, 40, halve, REAL_WORDING[1:]),
    Source("reworded", 1.0, 26, halve, OTHER_WORDING),
    Source("terse-expert", 1.0, 24, halve, (BARE,)),
    Source("wrong-way", 0.0, 24, go_wrong, REAL_WORDING, (3, 6)),
    Source("ignores-feedback", 0.0, 24, ignore_feedback, REAL_WORDING, (3, 6)),
    Source("rambling", 0.0, 10, ignore_feedback, LONG_WORDING, (8, 10)),
)
BLACKJACK_ROWS, BLACKJACK_HANDS = 16, 2


def real_rows() -> Iterator[dict[str, Any]]:
    """The expert on even secrets, each secret and wording at most once."""
    expert = Source("expert", 1.0, REAL_ROWS, halve, REAL_WORDING)
    yield from guessing_rows(expert, REAL_SEEDS, parity=0, origin="real")


def synthetic_rows() -> Iterator[dict[str, Any]]:
    """Every synthetic source on odd secrets, and one that plays another game."""
    for source in SOURCES:
        yield from guessing_rows(source, SYNTHETIC_SEEDS, parity=1, origin="synthetic")
    yield from blackjack_rows()


def guessing_rows(
    source: Source, seeds: range, *, parity: int, origin: str
) -> Iterator[dict[str, Any]]:
    """Distinct episodes of one source, in the order of its seeds."""
    seen: set[str] = set()
    for seed in seeds:
        if len(seen) == source.rows:
            return
        episode = play_guessing(source, seed)
        text = json.dumps(episode["messages"])
        if episode["secret"] == FIRST_GUESS or episode["secret"] % 2 != parity or text in seen:
            continue
        seen.add(text)
        yield {
            "id": f"{source.name}-{seed}",
            "source": source.name,
            "origin": origin,
            "task_id": f"guess-{HIGHEST}/{episode['secret']}",
            "seed": seed,
            "reward": round(episode["reward"], 4),
            "quality": source.quality,
            "messages": episode["messages"],
        }
    message = f"{source.name}: the seeds give only {len(seen)} of {source.rows} rows"
    raise SystemExit(message)


def play_guessing(source: Source, seed: int) -> dict[str, Any]:
    """One episode; the environment picks the secret from the seed and gives every hint."""
    rng = random.Random(f"{source.name}/{seed}")
    wording, limit = rng.choice(source.wording), rng.randint(*source.turns)
    env = GuessTheNumberEnv(min_number=1, max_number=HIGHEST, max_turns=TURN_LIMIT)
    env.reset(num_players=1, seed=seed)
    secret = env.game_number
    env.get_observation()
    messages = [message("system", SYSTEM), message("user", OPENING)]
    history: History = []
    done = False
    while not done and len(history) < limit:
        guess = source.policy(history, rng)
        answer = wording.format(guess)
        done, _ = env.step(answer)
        messages.append(message("assistant", answer))
        if not done:
            reply = env.get_observation()[1][-1][1]
            history.append((guess, "higher" if "higher" in reply else "lower"))
            messages.append(message("user", reply))
    reward = env.state.rewards[0] if done else env._get_percentage_completion()
    return {"secret": secret, "reward": float(reward), "messages": messages}


def blackjack_rows() -> Iterator[dict[str, Any]]:
    """Off-task: another game, played by its usual rule, in the same bracketed style."""
    for seed in SYNTHETIC_SEEDS[:BLACKJACK_ROWS]:
        env = BlackjackEnv(num_hands=BLACKJACK_HANDS)
        env.reset(num_players=1, seed=seed)
        messages = [message("system", BLACKJACK_SYSTEM)]
        done = False
        while not done:
            view = env.get_observation()[1][-1][1]
            score = int(view.split("Score: ")[1].split(")")[0])
            answer = "[Hit]" if score < 17 else "[Stand]"
            messages += [message("user", view), message("assistant", answer)]
            done, _ = env.step(answer)
        yield {
            "id": f"off-task-{seed}",
            "source": "off-task",
            "origin": "synthetic",
            "task_id": f"blackjack/{seed}",
            "seed": seed,
            "reward": round(float(env.state.rewards[0]), 4),
            "quality": 0.0,
            "messages": messages,
        }


def message(role: str, content: str) -> dict[str, str]:
    """One chat message."""
    return {"role": role, "content": content}


def write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """One JSON object a line, always the same bytes for the same rows."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def main() -> None:
    """Write both files to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    out: Path = parser.parse_args().out
    write(out / "real.jsonl", real_rows())
    write(out / "synthetic.jsonl", synthetic_rows())


if __name__ == "__main__":
    main()

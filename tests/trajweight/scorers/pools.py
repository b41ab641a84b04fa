"""Small pools of rows for the tests of scorers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import polars as pl

from trajweight.jsontext import encode
from trajweight.scorers import Pool

if TYPE_CHECKING:
    from trajweight.ground import Ground

SCHEMA = {
    "traj_id": pl.String,
    "source": pl.String,
    "origin": pl.String,
    "task_id": pl.String,
    "split": pl.String,
    "reward": pl.Float64,
    "success": pl.Boolean,
    "messages_json": pl.String,
    "tools_json": pl.String,
}

Message = dict[str, Any]


def no_ground() -> Ground:
    message = "a scorer that needs rows alone asked for the model"
    raise AssertionError(message)


def say(*replies: str, ask: str = "Go on.") -> list[Message]:
    """A chat in which somebody asks the same before every reply."""
    turns: list[Message] = []
    for reply in replies:
        turns += [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
    return turns


def row(place: int, chat: str | list[Message], **columns: Any) -> dict[str, Any]:
    """A synthetic row, of which some columns are given."""
    messages = say(chat) if isinstance(chat, str) else chat
    plain = {
        "traj_id": f"row-{place}",
        "source": "robot",
        "origin": "synthetic",
        "task_id": "task",
        "split": "train",
        "reward": None,
        "success": None,
        "messages_json": encode(messages),
        "tools_json": None,
    }
    return {**plain, **columns}


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def pool_of(
    synthetic: list[Any], real: list[Any] | tuple[()] = (), *, seed: int = 0, **columns: list[Any]
) -> Pool:
    """A pool of chats, or of texts that are replies.

    Args:
        synthetic: Chats.
        real: Chats.
        seed: Of the pool.
        columns: Of the synthetic rows.
    """
    made = [
        row(place, chat, **{name: values[place] for name, values in columns.items()})
        for place, chat in enumerate(synthetic)
    ]
    others = [
        row(place, chat, traj_id=f"real-{place}", origin="real", source="real")
        for place, chat in enumerate(real)
    ]
    return Pool(table(made), table(others), seed, no_ground)


def varied_pool(*, seed: int = 0) -> Pool:
    """A pool in which every scorer of rows finds something: 30 synthetic and 9 real rows."""
    drawn = random.Random(5)
    words = [f"w{number}" for number in range(40)]

    def chat(first: int) -> list[Message]:
        known = words[first : first + 20]
        replies = [" ".join(drawn.choices(known, k=drawn.randint(1, 12))) for _ in range(3)]
        return say(*replies, ask=" ".join(drawn.choices(words, k=4)))

    return pool_of(
        [chat(drawn.randrange(20)) for _ in range(30)],
        [chat(0) for _ in range(9)],
        seed=seed,
        task_id=[f"task-{place % 5}" for place in range(30)],
        source=[f"source-{place % 4}" for place in range(30)],
        reward=[None if place % 7 == 0 else drawn.random() for place in range(30)],
    )

"""The scalars of a row: who made it, for which task, with which reward, under many names.

Every look-up gives what was found, the field that said it, and a remark where a field was
there but could not be used. The row itself is never changed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from trajweight.trajectory import Origin

T = TypeVar("T")

ID_FIELDS: Final = ("traj_id", "id", "trajectory_id", "conversation_id", "uuid")
SOURCE_FIELDS: Final = ("source", "model", "generator", "policy", "dataset")
ORIGIN_FIELDS: Final = ("origin", "provenance")
TASK_FIELDS: Final = ("task_id", "task", "instance_id", "problem_id", "group", "prompt_id")
PARENT_FIELD: Final = "parent_id"  # the id of the row that this one was made from
GROUP_FIELDS: Final = ("group_id", "seed_id", PARENT_FIELD)
REWARD_FIELDS: Final = ("reward", "score", "return")
SUCCESS_FIELDS: Final = ("success", "resolved", "passed")

#: Values of an origin field, in lower case.
ORIGIN_WORDS: Final[dict[str, Origin]] = {
    "real": "real",
    "human": "real",
    "synthetic": "synthetic",
    "generated": "synthetic",
    "simulated": "synthetic",
    "model": "synthetic",
}


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a row says of one thing.

    Attributes:
        value: The value; None when the row does not say.
        field: The field that said it; empty when none did.
        remark: Why a field that was there could not be used; empty when all went well.
    """

    value: T | None = None
    field: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Scalars:
    """All that a row's fields say, the origin apart, which labels may overrule."""

    traj_id: Found[str]
    source: Found[str]
    task: Found[str]
    group: Found[str]
    reward: Found[float]
    success: Found[bool]

    @property
    def used(self) -> tuple[tuple[str, str], ...]:
        """What was found, each with the field that said it."""
        named = (
            ("id", self.traj_id.field),
            ("source", self.source.field),
            ("task", self.task.field),
            ("group", self.group.field),
            ("reward", self.reward.field),
            ("success", self.success.field),
        )
        return tuple((what, field) for what, field in named if field)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why a field that was there could not be used."""
        return tuple(found.remark for found in (self.reward, self.success) if found.remark)


def scalars(row: Row, non_finite: frozenset[str] = frozenset()) -> Scalars:
    """All scalars of a row; ``non_finite`` names fields that held NaN or an infinity."""
    return Scalars(
        traj_id=scalar(row, ID_FIELDS),
        source=source(row),
        task=scalar(row, TASK_FIELDS),
        group=scalar(row, GROUP_FIELDS),
        reward=reward(row, non_finite),
        success=success(row),
    )


def scalar(row: Row, fields: tuple[str, ...]) -> Found[str]:
    """The first text or whole number among the fields, as text."""
    for field in fields:
        value = row.get(field)
        is_usable = isinstance(value, str | int | float) and not isinstance(value, bool)
        if is_usable and str(value).strip():
            return Found(str(value), field)
    return Found()


def source(row: Row) -> Found[str]:
    """Who made the trajectory; only text counts."""
    for field in SOURCE_FIELDS:
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            return Found(value, field)
    return Found()


def origin(row: Row) -> Found[Origin]:
    """Whether the row says it is real or synthetic.

    Raises:
        UnusableError: If it says something else, since a wrong guess would spoil the result.
    """
    for field in ORIGIN_FIELDS:
        value = row.get(field)
        if value is None:
            continue
        word = ORIGIN_WORDS.get(value.strip().lower()) if isinstance(value, str) else None
        if word is None:
            known = ", ".join(ORIGIN_WORDS)
            reason = f"{field} is {_shown(value)}; known values are {known}"
            raise UnusableError(reason)
        return Found(word, field)
    return Found()


def reward(row: Row, non_finite: frozenset[str] = frozenset()) -> Found[float]:
    """The reward as a number; true and false are 1 and 0.

    Args:
        row: The row.
        non_finite: Fields that held NaN or an infinity, which were read as null. Such a
            reward is unknown, even where another field has a number.
    """
    for field in REWARD_FIELDS:
        if field in non_finite:
            return Found()
        value = row.get(field)
        if value is None:
            continue
        number = _number(value)
        if number is None:
            return Found(remark=f"{field} is {_shown(value)}; read as unknown")
        return Found(number, field)
    return Found()


def success(row: Row) -> Found[bool]:
    """Whether the task was solved; the numbers 0 and 1 count as false and true."""
    for field in SUCCESS_FIELDS:
        value = row.get(field)
        if value is None:
            continue
        if isinstance(value, bool | int | float) and value in (0, 1):
            return Found(bool(value), field)
        return Found(remark=f"{field} is {_shown(value)}; read as unknown")
    return Found()


def opening(messages: list[Row]) -> str:
    """A short hash of the first user turn, the same for rows that begin the same task.

    Without a user turn it is the first turn that is not a system turn.
    """
    spoken = [m for m in messages if m["role"] != "system"]
    first = next((m for m in spoken if m["role"] == "user"), spoken[0])
    digest = hashlib.sha256(first["content"].strip().encode()).hexdigest()
    return f"opening:{digest[:16]}"


def _number(value: Any) -> float | None:
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond the range of a float
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return kind_of(value)
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

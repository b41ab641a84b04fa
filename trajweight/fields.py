"""The scalars of a row: who made it, for which task, with which reward, under many names.

Every look-up gives what was found, the field that said it, and a remark where a field was
there but could not be used. The row itself is never changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from trajweight.formats.lookup import look_up
from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from trajweight.trajectory import Origin

T = TypeVar("T")

PARENT_FIELD: Final = "parent_id"  # the id of the row that this one was made from
#: By what they say, the fields that any row may have, in the order they are asked.
SHARED_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "id": ("traj_id", "id", "trajectory_id", "conversation_id", "uuid"),
    "source": ("source", "model", "generator", "policy", "dataset"),
    "origin": ("origin", "provenance"),
    "task": ("task_id", "task", "instance_id", "problem_id", "group", "prompt_id"),
    "group": ("group_id", "seed_id", PARENT_FIELD),
    "reward": ("reward", "score", "return"),
    "success": ("success", "resolved", "passed"),
}

#: Values of an origin field, in lower case.
ORIGIN_WORDS: Final[dict[str, Origin]] = {
    "real": "real",
    "human": "real",
    "synthetic": "synthetic",
    "generated": "synthetic",
    "simulated": "synthetic",
    "model": "synthetic",
}

#: Paths to ask, by what they say.
Paths = Mapping[str, tuple[str, ...]]


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


def paths_of(own: Paths, mapped: Mapping[str, str]) -> Paths:
    """The paths to ask of the rows of one format.

    Args:
        own: Those that the format knows, asked before the shared ones.
        mapped: Those that the user named; each is asked alone.
    """
    return {
        what: (mapped[what],) if what in mapped else (*own.get(what, ()), *shared)
        for what, shared in SHARED_FIELDS.items()
    }


class Teller:
    """What one row says, asked by what it is about.

    A row's canonical form may say a thing that stands in no single field; it comes after what the
    user mapped and before the fields.
    """

    def __init__(
        self,
        row: Any,
        paths: Paths,
        canonical: Canonical,
        *,
        mapped: Mapping[str, str],
        non_finite: frozenset[str] = frozenset(),
    ) -> None:
        """Ask this row by these paths.

        Args:
            row: The row as it stood.
            paths: See ``paths_of``.
            canonical: Its conversation, which may say more.
            mapped: What the user mapped.
            non_finite: Dotted paths that held NaN or an infinity, which were read as null. Such a
                reward is unknown, even where another field has a number.
        """
        self._row, self._paths, self._non_finite = row, paths, non_finite
        self._said = {what: said for what, said in canonical.said.items() if what not in mapped}

    def scalars(self) -> Scalars:
        """All that the row says, its origin apart."""
        return Scalars(
            traj_id=self._text("id"),
            source=self._text("source", only_text=True),
            task=self._text("task"),
            group=self._text("group"),
            reward=self._reward(),
            success=self._success(),
        )

    def origin(self) -> Found[Origin]:
        """Whether the row says it is real or synthetic.

        Raises:
            UnusableError: If it says something else, since a wrong guess would spoil the result.
        """
        for value, field in self._answers("origin"):
            word = ORIGIN_WORDS.get(value.strip().lower()) if isinstance(value, str) else None
            if word is None:
                known = ", ".join(ORIGIN_WORDS)
                reason = f"{field} is {_shown(value)}; known values are {known}"
                raise UnusableError(reason)
            return Found(word, field)
        return Found()

    def _answers(self, what: str) -> list[tuple[Any, str]]:
        """Every value that is not null, with the field or the words that tell where it is from."""
        if what in self._said:
            return [self._said[what]]
        row, found = self._row, []
        for path in self._paths[what]:
            value = row.get(path) if type(row) is dict and path in row else look_up(row, path)
            # A reward that was NaN is there, and unknown.
            if value is not None or (what == "reward" and path in self._non_finite):
                found.append((value, path))
        return found

    def _text(self, what: str, *, only_text: bool = False) -> Found[str]:
        """The first text or whole number, as text."""
        for value, field in self._answers(what):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if (isinstance(value, str) or (is_number and not only_text)) and str(value).strip():
                return Found(str(value), field)
        return Found()

    def _reward(self) -> Found[float]:
        """The reward as a number; true and false are 1 and 0."""
        for value, field in self._answers("reward"):
            if field in self._non_finite:
                return Found()
            number = _number(value)
            if number is None:
                return Found(remark=f"{field} is {_shown(value)}; read as unknown")
            return Found(number, field)
        return Found()

    def _success(self) -> Found[bool]:
        """Whether the task was solved; the numbers 0 and 1 count as false and true."""
        for value, field in self._answers("success"):
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

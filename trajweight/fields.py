"""The scalars of a row: who made it, for which task, with which reward, under many names.

Every look-up gives what was found, the field that said it, and a remark where a field was
there but could not be used. The row itself is never changed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from trajweight.formats.lookup import look_up
from trajweight.formats.protocol import Canonical, Row, UnusableError
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trajectory import Origin

T = TypeVar("T")
#: A place in the order of asking, a value, and the field or the words that tell where it is from.
Answer = tuple[int, Any, str]

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


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths to ask of the rows of one format.

    Attributes:
        by_use: Paths in the order they are asked, by what they say.
        of_key: The same by path: the uses of each, with its place in their order. So a row of a
            few keys is asked a few times and not by every path.
        every: The same as use, place and path.
        leading_in: Those of them that have dots and may lead into a value.
    """

    by_use: Mapping[str, tuple[str, ...]]
    of_key: Mapping[str, tuple[tuple[str, int], ...]]
    every: tuple[tuple[str, int, str], ...]
    leading_in: tuple[tuple[str, int, str], ...]


class Found(NamedTuple, Generic[T]):
    """What a row says of one thing.

    Attributes:
        value: The value; None when the row does not say.
        field: The field that said it; empty when none did.
        remark: Why a field that was there could not be used; empty when all went well.
    """

    value: T | None = None
    field: str = ""
    remark: str = ""


_NOTHING: Final[Found[Any]] = Found()
_PLACE: Final = itemgetter(0)
_NUMBERS: Final = (int, float)  # true and false are numbers to Python


class Scalars(NamedTuple):
    """All that a row's fields say, the origin apart, which labels may overrule."""

    traj_id: Found[str]
    source: Found[str]
    task: Found[str]
    group: Found[str]
    reward: Found[float]
    success: Found[bool]

    @property
    def said_by(self) -> tuple[str, ...]:
        """The field that said each of them; empty where none did."""
        return tuple([found.field for found in self])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why a field that was there could not be used."""
        return tuple([found.remark for found in (self.reward, self.success) if found.remark])


def paths_of(own: Mapping[str, tuple[str, ...]], mapped: Mapping[str, str]) -> Paths:
    """The paths to ask of the rows of one format.

    Args:
        own: Those that the format knows, asked before the shared ones.
        mapped: Those that the user named; each is asked alone.
    """
    by_use = {
        what: (mapped[what],) if what in mapped else (*own.get(what, ()), *shared)
        for what, shared in SHARED_FIELDS.items()
    }
    every = [(what, n, path) for what, paths in by_use.items() for n, path in enumerate(paths)]
    of_key: dict[str, tuple[tuple[str, int], ...]] = {}
    for what, place, path in every:
        of_key[path] = (*of_key.get(path, ()), (what, place))
    return Paths(by_use, of_key, tuple(every), tuple(each for each in every if "." in each[2]))


class Teller:
    """What one row says, asked by what it is about.

    A row's canonical form may say a thing that stands in no single field; it comes after what the
    user mapped and before the fields.
    """

    __slots__ = ("_answers", "_non_finite")

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
        self._non_finite = non_finite
        self._answers = _answers(row, paths, non_finite)
        for what, said in canonical.said.items():
            if what not in mapped:
                self._answers[what] = [(0, *said)]

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
        if (found := self._answers.get("origin")) is None:
            return _NOTHING
        _, value, field = _in_order(found)[0]
        word = ORIGIN_WORDS.get(value.strip().lower()) if isinstance(value, str) else None
        if word is None:
            known = ", ".join(ORIGIN_WORDS)
            reason = f"{field} is {_shown(value)}; known values are {known}"
            raise UnusableError(reason)
        return Found(word, field)

    def _text(self, what: str, *, only_text: bool = False) -> Found[str]:
        """The first text or whole number, as text."""
        if (found := self._answers.get(what)) is None:
            return _NOTHING
        for _, value, field in _in_order(found):
            is_number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
            if isinstance(value, str) or (is_number and not only_text):
                text = str(value)
                if text and not text.isspace():
                    return Found(text, field)
        return _NOTHING

    def _reward(self) -> Found[float]:
        """The reward as a number; true and false are 1 and 0."""
        if (found := self._answers.get("reward")) is None:
            return _NOTHING
        _, value, field = _in_order(found)[0]
        if field in self._non_finite:
            return _NOTHING
        number = _number(value)
        if number is None:
            return Found(remark=f"{field} is {_shown(value)}; read as unknown")
        return Found(number, field)

    def _success(self) -> Found[bool]:
        """Whether the task was solved; the numbers 0 and 1 count as false and true."""
        if (found := self._answers.get("success")) is None:
            return _NOTHING
        _, value, field = _in_order(found)[0]
        if isinstance(value, _NUMBERS) and value in (0, 1):
            return Found(bool(value), field)
        return Found(remark=f"{field} is {_shown(value)}; read as unknown")


def _in_order(found: list[Answer]) -> list[Answer]:
    """Answers in the order of asking."""
    if len(found) > 1:
        found.sort(key=_PLACE)
    return found


def _answers(row: Any, paths: Paths, non_finite: frozenset[str]) -> dict[str, list[Answer]]:
    """By use, every value that is not null, with its place among the paths and its path.

    A reward that was NaN is there, and unknown.
    """
    found: dict[str, list[Answer]] = {}
    is_object = type(row) is dict
    if is_object:
        for key, value in row.items():
            for what, place in paths.of_key.get(key, ()):
                if value is not None or (what == "reward" and key in non_finite):
                    found.setdefault(what, []).append((place, value, key))
    for what, place, path in paths.leading_in if is_object else paths.every:
        if not (is_object and path in row):
            value = look_up(row, path)
            if value is not None or (what == "reward" and path in non_finite):
                found.setdefault(what, []).append((place, value, path))
    return found


def opening(messages: list[Row]) -> str:
    """A short hash of the first user turn, the same for rows that begin the same task.

    Without a user turn it is the first turn that is not a system turn.
    """
    for first in messages:
        if first["role"] == "user":
            break
    else:
        first = next(message for message in messages if message["role"] != "system")
    digest = hashlib.sha256(first["content"].strip().encode()).digest()
    return f"opening:{digest[:8].hex()}"


def _number(value: Any) -> float | None:
    if not isinstance(value, _NUMBERS):
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

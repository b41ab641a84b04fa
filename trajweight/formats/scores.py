"""Scores by name, as logs keep them, told as a reward where one of them is meant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.pieces import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Names that mean the reward, whatever other scores there are.
_REWARDS: Final = ("reward", "score", "return")


@dataclass(frozen=True, slots=True)
class Score:
    """One score.

    Attributes:
        name: What is scored.
        value: The score; what is no finite number says nothing.
        is_outcome: Whether it is true or false, given as 1 or 0.
    """

    name: str
    value: Any
    is_outcome: bool = False


def told_by(scores: Sequence[Score]) -> tuple[dict[str, tuple[Any, str]], tuple[str, ...]]:
    """The reward and the outcome that scores tell, and remarks on what they do not tell.

    The only name there is, or else the one that means a reward. Several scores of one name, such
    as those of several people, are averaged.
    """
    by_name: dict[str, list[Score]] = {}
    for score in scores:
        if as_number(score.value) is not None:
            by_name.setdefault(score.name, []).append(score)
    named: list[str] = [name for name in _REWARDS if name in by_name] or list(by_name)
    if not named:
        return {}, ()
    if len(named) > 1 and named[0] not in _REWARDS:
        remark = f"scores are named {listing(named)}; none is the reward"
        return {}, (remark,)
    found = by_name[named[0]]
    how = f"the score {named[0]}"
    if len(found) > 1:
        how = f"the mean of {len(found)} scores named {named[0]}"
    said = {"reward": (mean_of(score.value for score in found), how)}
    if len(found) == 1 and found[0].is_outcome and found[0].value in (0, 1):
        said["success"] = (found[0].value, how)
    return said, ()


def mean_of(values: Iterable[Any]) -> float:
    """The mean of what are numbers; there must be one."""
    numbers = [number for value in values if (number := as_number(value)) is not None]
    return math.fsum(number / len(numbers) for number in numbers)


def total_of(values: Any, name: str) -> tuple[dict[str, tuple[Any, str]], tuple[str, ...]]:
    """The sum of rewards as what a row says of its reward, or a remark why there is none.

    Args:
        values: A list of numbers, null where a step has no reward; anything else says nothing.
        name: What they are, in words.
    """
    given = [value for value in values if value is not None] if isinstance(values, list) else []
    numbers = [as_number(value) for value in given]
    if not numbers:
        return {}, ()
    if None in numbers:
        return {}, (f"{name} are not all numbers; the reward is unknown",)
    try:
        total = math.fsum(number for number in numbers if number is not None)
    except OverflowError:
        return {}, (f"{name} are too great to be added; the reward is unknown",)
    return {"reward": (total, f"the sum of {name}")}, ()


def as_number(value: Any) -> float | None:
    """A finite number, true and false as 1 and 0; None for anything else."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond the range of a float
        return None
    return number if math.isfinite(number) else None

"""Ids of tasks: the fold, a stroke, and a number from 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trajweight.bench.environment import FOLDS
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.bench.environment import Fold

#: Said after an action that is none here, in every environment.
NONSENSE: Final = "Nothing happens: that is no action you can take here."


def task_ids(fold: Fold, sizes: Mapping[Fold, int]) -> tuple[str, ...]:
    """All ids of a fold.

    Example:
        >>> task_ids("dev", {"train": 3, "dev": 2, "test": 1})
        ('dev/0', 'dev/1')
    """
    return tuple(f"{fold}/{number}" for number in range(sizes[fold]))


def place_of(task: str, sizes: Mapping[Fold, int]) -> tuple[Fold, int]:
    """Fold and number of an id.

    Raises:
        ConfigError: If no fold has such a task.

    Example:
        >>> place_of("dev/1", {"train": 3, "dev": 2, "test": 1})
        ('dev', 1)
    """
    for fold in FOLDS:
        number = task.removeprefix(f"{fold}/")
        if number != task and number.isdecimal() and str(int(number)) == number:
            if int(number) < sizes[fold]:
                return fold, int(number)
            break
    known = ", ".join(f"{fold}/0 to {fold}/{sizes[fold] - 1}" for fold in FOLDS)
    why = f"there is no task {task!r}"
    raise ConfigError(why, hint=f"Tasks are {known}.")

"""The formats that rows come in, each known by its content; one file a format.

A format of your own is a subclass of `Format` in a package of yours, named as an entry point:

    [project.entry-points."trajweight.formats"]
    mine = "my_package.my_format:MyFormat"

It is asked before ours, so it may also take over what one of ours would read.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import ConfigError
from trajweight.formats.messages import Messages
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.sharegpt import ShareGpt

if TYPE_CHECKING:
    from trajweight.records import Sample

__all__ = [
    "Canonical",
    "Format",
    "Item",
    "Row",
    "UnusableError",
    "detect",
    "format_named",
    "format_of_value",
    "formats",
    "nearest",
]

#: In the order they are asked: the more a format asks for, the earlier.
_OURS: Final[tuple[Format, ...]] = (
    Messages(),
    ShareGpt(),
)
_ENTRY_POINTS: Final = "trajweight.formats"


@cache
def formats() -> tuple[Format, ...]:
    """Every format, those of other packages first.

    Raises:
        ConfigError: If another package names something that is no format, or cannot be imported.
    """
    return (*(_loaded(point) for point in entry_points(group=_ENTRY_POINTS)), *_OURS)


def detect(sample: Sample) -> Format | None:
    """The first format that a file's first records are of, or None."""
    return next((form for form in formats() if form.matches(sample)), None)


def format_of_value(value: Any) -> Format | None:
    """The first format that one record by itself is a row of, or None."""
    return next((form for form in formats() if not form.rows_at and not form.lacks(value)), None)


def nearest(value: Any, *, n: int = 3) -> list[tuple[Format, tuple[str, ...]]]:
    """The formats that a record lacks least of, with what it lacks, the nearest first."""
    wanted = [(form, form.lacks(value)) for form in formats()]
    return sorted(wanted, key=lambda pair: len(pair[1]))[:n]


def format_named(name: str) -> Format:
    """The format whose rows carry this name in ``origin_format``.

    Raises:
        ConfigError: If there is none; the message names those there are.
    """
    for form in formats():
        if form.name == name:
            return form
    known = ", ".join(sorted(form.name for form in formats()))
    message = f"no format is called {name!r}"
    raise ConfigError(message, hint=f"Known formats are {known}.")


def _loaded(point: Any) -> Format:
    """The format that an entry point names."""
    try:
        made: object = point.load()()
    except Exception as error:
        message = f"the format {point.name!r} of another package cannot be loaded: {error}"
        raise ConfigError(message, hint=f"Mend or remove {point.value}.") from error
    if not isinstance(made, Format):
        message = f"the format {point.name!r} of another package is {type(made).__name__}"
        raise ConfigError(message, hint="It must be a subclass of trajweight.formats.Format.")
    return made
